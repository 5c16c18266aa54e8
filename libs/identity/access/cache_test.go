package access

import (
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
)

// fixture is a cache with a real signer and a verifier that counts its calls.
type fixture struct {
	clock    *clock.Manual
	signer   token.Signer
	cache    *Cache
	verified int
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	b := &fixture{clock: clock.At(time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC))}
	b.signer = token.Signer{KeyID: "k", Key: private, Clock: b.clock}
	verifier := token.NewVerifier(func(string) (ed25519.PublicKey, error) { return public, nil }, b.clock)
	b.cache = NewCache(func(r *http.Request) (identity.Caller, error) {
		b.verified++
		return verifier.Authenticate(r)
	}, b.clock)
	return b
}

func (b *fixture) request(t *testing.T, ttl time.Duration) *http.Request {
	t.Helper()
	text, err := b.signer.Sign(identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: identity.Agent}, ttl)
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+text)
	return r
}

func TestATokenIsVerifiedOnceAMinute(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	r := b.request(t, time.Hour)
	first, err := b.cache.Authenticate(r)
	require.NoError(t, err)
	b.clock.Advance(59 * time.Second)
	again, err := b.cache.Authenticate(r)
	require.NoError(t, err)
	require.Equal(t, first, again, "with the token of this request, for requests to other services")
	require.Equal(t, 1, b.verified)
	for _, v := range b.cache.recent {
		require.Empty(t, v.caller.Token, "the token's text is not stored")
	}
	b.clock.Advance(time.Second)
	_, err = b.cache.Authenticate(r)
	require.NoError(t, err)
	require.Equal(t, 2, b.verified)
}

func TestATokenIsNotCachedPastItsExpiry(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	r := b.request(t, 10*time.Second)
	_, err := b.cache.Authenticate(r)
	require.NoError(t, err)
	b.clock.Advance(10 * time.Second)
	_, err = b.cache.Authenticate(r)
	require.NoError(t, err, "the verifier allows clock differences")
	require.Equal(t, 2, b.verified)
	b.clock.Advance(61 * time.Second)
	_, err = b.cache.Authenticate(r)
	require.ErrorContains(t, err, "token_expired")
}

func TestARefusedTokenIsNotCached(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	r := b.request(t, time.Hour)
	r.Header.Set("Authorization", r.Header.Get("Authorization")+"x")
	for range 2 {
		_, err := b.cache.Authenticate(r)
		require.ErrorContains(t, err, "invalid_token")
	}
	require.Equal(t, 2, b.verified)
	require.Empty(t, b.cache.recent)

	twice := b.request(t, time.Hour)
	twice.Header.Add("Authorization", twice.Header.Get("Authorization"))
	_, err := b.cache.Authenticate(twice)
	require.ErrorContains(t, err, "invalid_token")
}

func TestTheCacheIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	cache := NewCache(func(r *http.Request) (identity.Caller, error) {
		return identity.Caller{AgentID: r.Header.Get("Authorization"), Token: "e30.eyJleHAiOjk5OTk5OTk5OTl9.e30"}, nil
	}, clock.At(now))
	authenticate := func(name string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", name)
		caller, err := cache.Authenticate(r)
		require.NoError(t, err)
		require.Equal(t, name, caller.AgentID)
	}
	for i := range 3 * cacheTokens {
		authenticate(fmt.Sprint("token ", i))
		authenticate("often used")
	}
	require.LessOrEqual(t, len(cache.recent)+len(cache.older), 2*cacheTokens)
	require.NotEmpty(t, cache.older)
	cache.verify = func(*http.Request) (identity.Caller, error) { panic("a token in use was verified again") }
	authenticate("often used")
}
