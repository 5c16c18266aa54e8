package guard

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
)

// bench is a real signer and verifier that counts verifications.
type bench struct {
	clock    *clock.Manual
	signer   token.Signer
	tokens   *Tokens
	verified int
	ended    error // of a session, nil while it is active
}

func newBench(t *testing.T) *bench {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	b := &bench{clock: clock.At(time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC))}
	b.signer = token.Signer{KeyID: "k", Key: private, Clock: b.clock}
	verifier := token.NewVerifier(func(string) (ed25519.PublicKey, error) { return public, nil }, b.clock)
	b.tokens = NewTokens(func(r *http.Request) (identity.Caller, error) {
		b.verified++
		return verifier.Authenticate(r)
	}, func(identity.Caller) error { return b.ended }, b.clock)
	return b
}

func (b *bench) request(t *testing.T, ttl time.Duration) *http.Request {
	t.Helper()
	text, err := b.signer.Sign(identity.Caller{AgentID: contract.NewID(), SessionID: contract.NewID(), Role: identity.Agent}, ttl)
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+text)
	return r
}

func TestAnEndedSessionIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.request(t, time.Hour)
	_, err := b.tokens.caller(r)
	require.NoError(t, err)
	b.ended = errors.New("ended")
	_, err = b.tokens.caller(r)
	require.ErrorIs(t, err, b.ended, "although the token is cached")
	require.Equal(t, 1, b.verified)
}

func TestATokenIsVerifiedOncePerMinute(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.request(t, time.Hour)
	first, err := b.tokens.caller(r)
	require.NoError(t, err)
	b.clock.Advance(59 * time.Second)
	again, err := b.tokens.caller(r)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Empty(t, again.Token, "the token itself is not stored")
	require.Equal(t, 1, b.verified)
	b.clock.Advance(time.Second)
	_, err = b.tokens.caller(r)
	require.NoError(t, err)
	require.Equal(t, 2, b.verified)
}

func TestATokenIsNotCachedPastItsExpiry(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.request(t, 10*time.Second)
	_, err := b.tokens.caller(r)
	require.NoError(t, err)
	b.clock.Advance(10 * time.Second)
	_, err = b.tokens.caller(r)
	require.NoError(t, err, "the verifier allows for clock skew")
	require.Equal(t, 2, b.verified)
	b.clock.Advance(31 * time.Second)
	_, err = b.tokens.caller(r)
	require.ErrorContains(t, err, "token_expired")
}

func TestAnInvalidTokenIsNotCached(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.request(t, time.Hour)
	r.Header.Set("Authorization", r.Header.Get("Authorization")+"x")
	for range 2 {
		_, err := b.tokens.caller(r)
		require.ErrorContains(t, err, "invalid_token")
	}
	require.Equal(t, 2, b.verified)
	require.Empty(t, b.tokens.recent)

	twice := b.request(t, time.Hour)
	twice.Header.Add("Authorization", twice.Header.Get("Authorization"))
	_, err := b.tokens.caller(twice)
	require.ErrorContains(t, err, "invalid_token")
}

func TestTheTokenCacheIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	tokens := NewTokens(func(r *http.Request) (identity.Caller, error) {
		return identity.Caller{AgentID: r.Header.Get("Authorization"), Token: "e30.eyJleHAiOjk5OTk5OTk5OTl9.e30"}, nil
	}, func(identity.Caller) error { return nil }, clock.At(now))
	call := func(name string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", name)
		caller, err := tokens.caller(r)
		require.NoError(t, err)
		require.Equal(t, name, caller.AgentID)
	}
	for i := range 3 * maxTokens {
		call(fmt.Sprint("token ", i))
		call("often used")
	}
	require.LessOrEqual(t, len(tokens.recent)+len(tokens.older), 2*maxTokens)
	require.NotEmpty(t, tokens.older)
	tokens.verify = func(*http.Request) (identity.Caller, error) { panic("verified a token that is in use") }
	call("often used")
}
