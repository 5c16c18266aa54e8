package key_test

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/services/auth/internal/key"
)

const (
	secret = "Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE"
	day    = 24 * time.Hour
)

var now = time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)

// memory is a store in memory.
type memory struct {
	mu   sync.Mutex
	keys []key.Key
}

func (m *memory) Change(_ context.Context, fn func([]key.Key) ([]key.Key, error)) ([]key.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys, err := fn(slices.Clone(m.keys))
	if err != nil {
		return nil, err
	}
	m.keys = keys
	return keys, nil
}

func (m *memory) states() (states []key.State) {
	for _, k := range m.keys {
		states = append(states, k.State)
	}
	return states
}

func policy() key.Policy { return key.Policy{Secret: secret, Rotation: 30 * day, TokenTTL: day} }

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
	set, err := r.JWKS(t.Context(), key.JWKSRequest{})
	require.NoError(t, err)
	for _, k := range set.Keys {
		ids = append(ids, k.KeyID)
	}
	return ids
}

func TestFirstLoadMakesTwoKeysAndTheNextFindsThem(t *testing.T) {
	t.Parallel()
	store := &memory{}
	first := load(t, store, clock.At(now), policy())
	require.Equal(t, []key.State{key.Signing, key.Next}, store.states())
	second := load(t, store, clock.At(now), policy())
	require.Len(t, store.keys, 2)
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
	store, c := &memory{}, clock.At(now)
	ring := load(t, store, c, policy())
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
	require.Equal(t, []key.State{key.Old, key.Signing, key.Next}, store.states())
	require.Equal(t, first, published(t, ring)[:2], "who signs now was known before")
	require.NoError(t, verify(last), "a token of the old key")
	require.NoError(t, verify(sign(t, ring)))
	require.Error(t, verify(early), "its time is over")

	c.Advance(day - time.Minute)
	require.NoError(t, ring.Refresh(t.Context()))
	require.NoError(t, verify(last), "until the last token is dead")
	c.Advance(10 * time.Minute)
	require.NoError(t, ring.Refresh(t.Context()))
	require.Equal(t, []key.State{key.Signing, key.Next}, store.states())
	require.NotContains(t, published(t, ring), first[0])
}

func TestRotationOnCommand(t *testing.T) {
	t.Parallel()
	store, c := &memory{}, clock.At(now)
	running, command := load(t, store, c, policy()), load(t, store, c, policy())
	before := sign(t, running)
	require.ErrorIs(t, command.Rotate(t.Context()), key.ErrTooSoon, "nobody knows the next key yet")
	require.Equal(t, []key.State{key.Signing, key.Next}, store.states())

	c.Advance(key.PublishedAhead)
	require.NoError(t, command.Rotate(t.Context()))
	require.ErrorIs(t, command.Rotate(t.Context()), key.ErrTooSoon)
	require.Equal(t, []key.State{key.Old, key.Signing, key.Next}, store.states())

	verifier := token.NewVerifier(running.Public, c)
	_, err := verifier.Verify(sign(t, command))
	require.NoError(t, err, "a replica that has not looked yet knows the key that signs now")
	require.NoError(t, running.Refresh(t.Context()))
	require.Equal(t, published(t, command), published(t, running))
	for _, text := range []string{before, sign(t, running)} {
		_, err := verifier.Verify(text)
		require.NoError(t, err)
	}
}

func TestKeysOutliveTheLongestTokenOfAnyReplica(t *testing.T) {
	t.Parallel()
	store, c := &memory{}, clock.At(now)
	long, short := policy(), policy()
	long.TokenTTL, short.TokenTTL = 10*day, time.Hour
	text := sign(t, load(t, store, c, long))
	ring := load(t, store, c, short)
	c.Advance(time.Hour)
	require.NoError(t, ring.Rotate(t.Context()))
	c.Advance(9 * day)
	require.NoError(t, ring.Refresh(t.Context()))
	_, err := token.NewVerifier(ring.Public, c).Verify(text)
	require.NoError(t, err)
	require.Equal(t, time.Hour, store.keys[1].TokenTTL)
}

func TestAnotherSecretIsRefusedAndMakesNoKeys(t *testing.T) {
	t.Parallel()
	store := &memory{}
	load(t, store, clock.At(now), policy())
	p := policy()
	p.Secret += "x"
	_, err := key.Load(t.Context(), store, p, clock.At(now))
	require.ErrorIs(t, err, key.ErrSealed)
	require.ErrorContains(t, err, "SECRET_KEY does not open")
	require.NotContains(t, err.Error(), secret)
	require.Len(t, store.keys, 2)
	p.Previous = secret + "y"
	_, err = key.Load(t.Context(), store, p, clock.At(now))
	require.ErrorIs(t, err, key.ErrSealed)
}

func TestANewSecretSealsAnew(t *testing.T) {
	t.Parallel()
	store := &memory{}
	old := load(t, store, clock.At(now), policy())
	text := sign(t, old)
	sealed := slices.Clone(store.keys)
	p := policy()
	p.Secret, p.Previous = secret+"new", secret
	ring := load(t, store, clock.At(now), p)
	for i, k := range store.keys {
		require.False(t, bytes.Equal(sealed[i].Sealed, k.Sealed))
		require.Equal(t, sealed[i].ID, k.ID)
	}
	_, err := token.NewVerifier(ring.Public, clock.At(now)).Verify(text)
	require.NoError(t, err)

	p.Previous = ""
	load(t, store, clock.At(now), p)
	require.ErrorIs(t, old.Refresh(t.Context()), key.ErrSealed)
	_, err = token.NewVerifier(ring.Public, clock.At(now)).Verify(sign(t, old))
	require.NoError(t, err, "a replica with the old secret goes on until it is replaced")
}

func TestKeysThatWereTouchedAreRefused(t *testing.T) {
	t.Parallel()
	for name, touch := range map[string]func([]key.Key){
		"a flipped bit":      func(k []key.Key) { k[0].Sealed[30] ^= 1 },
		"cut":                func(k []key.Key) { k[0].Sealed = k[0].Sealed[:10] },
		"swapped":            func(k []key.Key) { k[0].Sealed, k[1].Sealed = k[1].Sealed, k[0].Sealed },
		"another public":     func(k []key.Key) { k[0].Public = k[1].Public },
		"none of them signs": func(k []key.Key) { k[0].State = key.Next },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &memory{}
			load(t, store, clock.At(now), policy())
			touch(store.keys)
			_, err := key.Load(t.Context(), store, policy(), clock.At(now))
			require.Error(t, err)
		})
	}
}

func TestAMissingNextKeyIsMade(t *testing.T) {
	t.Parallel()
	store, c := &memory{}, clock.At(now)
	load(t, store, c, policy())
	store.keys = store.keys[:1]
	c.Advance(31 * day)
	ring := load(t, store, c, policy())
	require.Equal(t, []key.State{key.Signing, key.Next}, store.states(), "it does not sign before it is known")
	c.Advance(key.PublishedAhead)
	require.NoError(t, ring.Refresh(t.Context()))
	require.Equal(t, []key.State{key.Old, key.Signing, key.Next}, store.states())
}

func TestPrivateKeysLieSealed(t *testing.T) {
	t.Parallel()
	store := &memory{}
	load(t, store, clock.At(now), policy())
	for _, k := range store.keys {
		require.Len(t, k.Sealed, 24+32+16, "nonce, seed, tag")
		require.NotContains(t, string(k.Sealed), string(k.Public))
	}
}
