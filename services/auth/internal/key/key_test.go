package key_test

import (
	"bytes"
	"crypto/ed25519"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/auth/internal/key"
	"github.com/convoflow/convoflow/services/auth/internal/store"
)

const (
	secret = "Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE"
	day    = 24 * time.Hour
)

var now = time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)

func TestMain(m *testing.M) { pgtest.Main(m) }

// stored has the keys in a fresh schema.
type stored struct {
	key.Store
	db *pg.DB
}

func empty(t *testing.T) stored {
	t.Helper()
	db := pgtest.Open(t, store.Migrations())
	return stored{store.Keys(db), db}
}

// keys returns the stored keys, the oldest first.
func (s stored) keys(t *testing.T) (keys []key.Key) {
	t.Helper()
	_, err := s.Change(t.Context(), func(all []key.Key) ([]key.Key, error) {
		keys = all
		return all, nil
	})
	require.NoError(t, err)
	return keys
}

func (s stored) states(t *testing.T) (states []key.State) {
	t.Helper()
	for _, k := range s.keys(t) {
		states = append(states, k.State)
	}
	return states
}

// corrupt changes the table without the store.
func (s stored) corrupt(t *testing.T, sql string) {
	t.Helper()
	tag, err := s.db.Conn(t.Context()).Exec(t.Context(), sql)
	require.NoError(t, err)
	require.Positive(t, tag.RowsAffected())
}

func policy() key.Policy {
	return key.Policy{
		Signer: func(id string, private ed25519.PrivateKey, c clock.Clock) key.Signer {
			return token.Signer{KeyID: id, Key: private, Clock: c}
		},
		Secret: secret, Rotation: 30 * day, TokenTTL: day,
	}
}

func load(t *testing.T, store key.Store, c clock.Clock, p key.Policy) *key.Ring {
	t.Helper()
	r, err := key.Load(t.Context(), store, p, c)
	require.NoError(t, err)
	return r
}

func sign(t *testing.T, r *key.Ring) string {
	t.Helper()
	text, err := r.Sign(identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: identity.Agent})
	require.NoError(t, err)
	return text
}

func published(t *testing.T, r *key.Ring) (ids []string) {
	t.Helper()
	return slices.Sorted(maps.Keys(r.Published()))
}

func TestFirstLoadMakesTwoKeysAndTheNextFindsThem(t *testing.T) {
	t.Parallel()
	keys := empty(t)
	first := load(t, keys, clock.At(now), policy())
	require.Equal(t, []key.State{key.Signing, key.Next}, keys.states(t))
	second := load(t, keys, clock.At(now), policy())
	require.Len(t, keys.keys(t), 2)
	require.Equal(t, published(t, first), published(t, second))
	require.Len(t, published(t, first), 2)

	caller := identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: identity.Agent}
	text, err := first.Sign(caller)
	require.NoError(t, err)
	got, err := token.NewVerifier(second.Public, clock.At(now.Add(day))).Verify(text)
	require.NoError(t, err)
	require.Equal(t, caller.SessionID, got.SessionID)
	_, err = token.NewVerifier(second.Public, clock.At(now.Add(day+time.Minute))).Verify(text)
	require.ErrorContains(t, err, "token_expired", "it lives as long as the policy says")

	_, err = first.Public(event.NewID())
	require.Error(t, err)
}

func TestKeyThroughItsLife(t *testing.T) {
	t.Parallel()
	keys, c := empty(t), clock.At(now)
	ring := load(t, keys, c, policy())
	first := published(t, ring)
	early := sign(t, ring)
	verify := func(text string) error {
		_, err := token.NewVerifier(ring.Public, c).Verify(text)
		return err
	}

	c.Advance(30*day - time.Second)
	require.NoError(t, ring.Refresh(t.Context()))
	require.Equal(t, first, published(t, ring), "not yet")
	last := sign(t, ring)
	c.Advance(time.Second)
	require.NoError(t, ring.Refresh(t.Context()))
	require.Equal(t, []key.State{key.Old, key.Signing, key.Next}, keys.states(t))
	require.Equal(t, first, published(t, ring)[:2], "the key that signs now was published before")
	require.NoError(t, verify(last), "a token of the old key")
	require.NoError(t, verify(sign(t, ring)))
	require.Error(t, verify(early), "it has expired")

	c.Advance(day - time.Minute)
	require.NoError(t, ring.Refresh(t.Context()))
	require.NoError(t, verify(last), "until the last token has expired")
	c.Advance(10 * time.Minute)
	require.NoError(t, ring.Refresh(t.Context()))
	require.Equal(t, []key.State{key.Signing, key.Next}, keys.states(t))
	require.NotContains(t, published(t, ring), first[0])
}

func TestRotationOnCommand(t *testing.T) {
	t.Parallel()
	keys, c := empty(t), clock.At(now)
	running, command := load(t, keys, c, policy()), load(t, keys, c, policy())
	before := sign(t, running)
	require.ErrorIs(t, command.Rotate(t.Context()), key.ErrTooSoon, "the next key is not known everywhere yet")
	require.Equal(t, []key.State{key.Signing, key.Next}, keys.states(t))

	c.Advance(key.PublishedAhead)
	require.NoError(t, command.Rotate(t.Context()))
	require.ErrorIs(t, command.Rotate(t.Context()), key.ErrTooSoon)
	require.Equal(t, []key.State{key.Old, key.Signing, key.Next}, keys.states(t))

	verifier := token.NewVerifier(running.Public, c)
	_, err := verifier.Verify(sign(t, command))
	require.NoError(t, err, "a replica that has not refreshed yet knows the key that signs now")
	require.NoError(t, running.Refresh(t.Context()))
	require.Equal(t, published(t, command), published(t, running))
	for _, text := range []string{before, sign(t, running)} {
		_, err := verifier.Verify(text)
		require.NoError(t, err)
	}
}

func TestKeysOutliveTheLongestTokenOfAnyReplica(t *testing.T) {
	t.Parallel()
	keys, c := empty(t), clock.At(now)
	long, short := policy(), policy()
	long.TokenTTL, short.TokenTTL = 10*day, time.Hour
	text := sign(t, load(t, keys, c, long))
	ring := load(t, keys, c, short)
	c.Advance(time.Hour)
	require.NoError(t, ring.Rotate(t.Context()))
	c.Advance(9 * day)
	require.NoError(t, ring.Refresh(t.Context()))
	_, err := token.NewVerifier(ring.Public, c).Verify(text)
	require.NoError(t, err)
	require.Equal(t, time.Hour, keys.keys(t)[1].TokenTTL)
}

func TestAnotherSecretIsRefusedAndMakesNoKeys(t *testing.T) {
	t.Parallel()
	keys := empty(t)
	load(t, keys, clock.At(now), policy())
	p := policy()
	p.Secret += "x"
	_, err := key.Load(t.Context(), keys, p, clock.At(now))
	require.ErrorIs(t, err, key.ErrSealed)
	require.ErrorContains(t, err, "SECRET_KEY does not open")
	require.NotContains(t, err.Error(), secret)
	require.Len(t, keys.keys(t), 2)
	p.Previous = secret + "y"
	_, err = key.Load(t.Context(), keys, p, clock.At(now))
	require.ErrorIs(t, err, key.ErrSealed)
}

func TestANewSecretSealsAnew(t *testing.T) {
	t.Parallel()
	keys := empty(t)
	old := load(t, keys, clock.At(now), policy())
	text := sign(t, old)
	sealed := keys.keys(t)
	p := policy()
	p.Secret, p.Previous = secret+"new", secret
	ring := load(t, keys, clock.At(now), p)
	require.Equal(t, sealed, keys.keys(t), "replicas with the old secret can still read them")
	require.NoError(t, old.Refresh(t.Context()))
	resealed, all, err := ring.Reseal(t.Context())
	require.NoError(t, err)
	require.Equal(t, [2]int{2, 2}, [2]int{resealed, all})
	resealed, all, err = ring.Reseal(t.Context())
	require.NoError(t, err)
	require.Equal(t, [2]int{0, 2}, [2]int{resealed, all})
	for i, k := range keys.keys(t) {
		require.False(t, bytes.Equal(sealed[i].Sealed, k.Sealed))
		require.Equal(t, sealed[i].ID, k.ID)
	}
	_, err = token.NewVerifier(ring.Public, clock.At(now)).Verify(text)
	require.NoError(t, err)

	p.Previous = ""
	load(t, keys, clock.At(now), p)
	require.ErrorIs(t, old.Refresh(t.Context()), key.ErrSealed)
	_, err = token.NewVerifier(ring.Public, clock.At(now)).Verify(sign(t, old))
	require.NoError(t, err, "a replica with the old secret continues until it is replaced")
}

func TestKeysThatWereChangedAreRefused(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"a flipped bit":      `update signing_keys set sealed = set_byte(sealed, 30, get_byte(sealed, 30) # 1) where state = 'signing'`,
		"cut":                `update signing_keys set sealed = substr(sealed, 1, 10) where state = 'signing'`,
		"swapped":            `update signing_keys k set sealed = o.sealed from signing_keys o where k.kid <> o.kid`,
		"another public":     `update signing_keys set public = (select public from signing_keys where state = 'next') where state = 'signing'`,
		"none of them signs": `update signing_keys set state = 'next' where state = 'signing'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := empty(t)
			load(t, keys, clock.At(now), policy())
			keys.corrupt(t, sql)
			_, err := key.Load(t.Context(), keys, policy(), clock.At(now))
			require.Error(t, err)
		})
	}
}

func TestAMissingNextKeyIsMade(t *testing.T) {
	t.Parallel()
	keys, c := empty(t), clock.At(now)
	load(t, keys, c, policy())
	keys.corrupt(t, `delete from signing_keys where state = 'next'`)
	c.Advance(31 * day)
	ring := load(t, keys, c, policy())
	require.Equal(t, []key.State{key.Signing, key.Next}, keys.states(t), "it does not sign before it is known")
	c.Advance(key.PublishedAhead)
	require.NoError(t, ring.Refresh(t.Context()))
	require.Equal(t, []key.State{key.Old, key.Signing, key.Next}, keys.states(t))
}

func TestPrivateKeysAreSealed(t *testing.T) {
	t.Parallel()
	keys := empty(t)
	load(t, keys, clock.At(now), policy())
	for _, k := range keys.keys(t) {
		require.Len(t, k.Sealed, 1+24+32+16, "version, nonce, seed, tag")
		require.NotContains(t, string(k.Sealed), string(k.Public))
	}
}
