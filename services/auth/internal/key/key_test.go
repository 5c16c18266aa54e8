package key_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/services/auth/internal/key"
)

const secret = "Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE"

var now = time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)

// memory is a store in memory.
type memory struct {
	mu   sync.Mutex
	keys []key.Key
}

func (m *memory) Change(_ context.Context, fn func([]key.Key) ([]key.Key, error)) ([]key.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	added, err := fn(m.keys)
	m.keys = append(m.keys, added...)
	return m.keys, err
}

func TestFirstLoadMakesTwoKeysAndTheNextFindsThem(t *testing.T) {
	t.Parallel()
	store := &memory{}
	first, err := key.Load(t.Context(), store, secret, clock.At(now))
	require.NoError(t, err)
	require.Len(t, store.keys, 2)
	require.Equal(t, key.Signing, store.keys[0].State)
	require.Equal(t, key.Next, store.keys[1].State)

	second, err := key.Load(t.Context(), store, secret, clock.At(now))
	require.NoError(t, err)
	require.Len(t, store.keys, 2)
	one, err := first.JWKS(t.Context(), key.JWKSRequest{})
	require.NoError(t, err)
	other, err := second.JWKS(t.Context(), key.JWKSRequest{})
	require.NoError(t, err)
	require.Equal(t, one, other)
	require.Len(t, one.Keys, 2)
	require.NotEqual(t, one.Keys[0].X, one.Keys[1].X)

	caller := identity.Caller{AgentID: contract.NewID(), SessionID: contract.NewID(), Role: identity.Agent}
	text, err := first.Sign(caller, time.Minute)
	require.NoError(t, err)
	got, err := token.NewVerifier(second.Public, clock.At(now)).Verify(text)
	require.NoError(t, err)
	require.Equal(t, caller.SessionID, got.SessionID)

	_, err = first.Public(contract.NewID())
	require.Error(t, err)
}

func TestAnotherSecretIsRefusedAndMakesNoKeys(t *testing.T) {
	t.Parallel()
	store := &memory{}
	_, err := key.Load(t.Context(), store, secret, clock.At(now))
	require.NoError(t, err)
	_, err = key.Load(t.Context(), store, secret+"x", clock.At(now))
	require.ErrorIs(t, err, key.ErrSealed)
	require.ErrorContains(t, err, "SECRET_KEY does not open")
	require.NotContains(t, err.Error(), secret)
	require.Len(t, store.keys, 2)
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
			_, err := key.Load(t.Context(), store, secret, clock.At(now))
			require.NoError(t, err)
			touch(store.keys)
			_, err = key.Load(t.Context(), store, secret, clock.At(now))
			require.Error(t, err)
		})
	}
}

func TestPrivateKeysLieSealed(t *testing.T) {
	t.Parallel()
	store := &memory{}
	_, err := key.Load(t.Context(), store, secret, clock.At(now))
	require.NoError(t, err)
	for _, k := range store.keys {
		require.Len(t, k.Sealed, 24+32+16, "nonce, seed, tag")
		require.False(t, strings.Contains(string(k.Sealed), string(k.Public)))
	}
}
