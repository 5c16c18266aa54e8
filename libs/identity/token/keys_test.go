package token_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// auth is a transport that responds like auth's JWKS route. Without a network, tests can use virtual time.
type auth struct {
	mu      sync.Mutex
	status  int
	body    string
	fetches []time.Time
}

func (a *auth) set(status int, body string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status, a.body = status, body
}

func (a *auth) times() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.fetches)
}

func (a *auth) RoundTrip(*http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fetches = append(a.fetches, time.Now())
	if a.status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: a.status, Status: http.StatusText(a.status), Body: io.NopCloser(strings.NewReader(a.body))}, nil
}

func keySet(t *testing.T, ids ...string) string {
	t.Helper()
	var set token.JWKS
	for _, id := range ids {
		public, _, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		set.Keys = append(set.Keys, token.PublicJWK(id, public))
	}
	raw, err := json.Marshal(set)
	require.NoError(t, err)
	return string(raw)
}

// runKeys runs the keys in virtual time.
func runKeys(t *testing.T, a *auth, test func(t *testing.T, keys *token.Remote)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		keys := token.Fetch("http://auth/.well-known/jwks.json", &http.Client{Transport: a}, clock.System{}, telemetry.Nop())
		go func() { _ = keys.Run(ctx) }()
		synctest.Wait()
		test(t, keys)
		cancel()
		synctest.Wait()
	})
}

func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestKeysAreFetchedOnceAuthIsUp(t *testing.T) {
	t.Parallel()
	a := &auth{}
	runKeys(t, a, func(t *testing.T, keys *token.Remote) {
		_, err := keys.Key("a")
		require.ErrorIs(t, err, token.ErrNoKeys)
		require.ErrorIs(t, keys.Ready(t.Context()), token.ErrNoKeys)
		a.set(http.StatusOK, keySet(t, "a"))
		advance(time.Second)
		require.NoError(t, keys.Ready(t.Context()))
		_, err = keys.Key("a")
		require.NoError(t, err)
	})
}

func TestTheLastKeysAreUsedWhileAuthIsDown(t *testing.T) {
	t.Parallel()
	a := &auth{status: http.StatusOK, body: keySet(t, "a")}
	runKeys(t, a, func(t *testing.T, keys *token.Remote) {
		original, err := keys.Key("a")
		require.NoError(t, err)
		for status, body := range map[int]string{0: "", 500: "", 404: keySet(t, "b"), 200: "<html>", 301: ""} {
			a.set(status, body)
			before := a.times()
			advance(2 * time.Minute)
			require.Greater(t, a.times(), before, "it keeps fetching")
			after, err := keys.Key("a")
			require.NoError(t, err, status)
			require.Equal(t, original, after)
		}
		a.set(http.StatusOK, `{"keys":[]}`)
		advance(2 * time.Minute)
		require.NoError(t, keys.Ready(t.Context()), "an empty set is ignored")
		a.set(http.StatusOK, keySet(t, "b"))
		advance(2 * time.Minute)
		_, err = keys.Key("a")
		require.Error(t, err, "a key that auth withdrew is not used")
	})
}

func TestKeysExpireAfterADay(t *testing.T) {
	t.Parallel()
	a := &auth{status: http.StatusOK, body: keySet(t, "a")}
	runKeys(t, a, func(t *testing.T, keys *token.Remote) {
		a.set(0, "")
		advance(24 * time.Hour)
		_, err := keys.Key("a")
		require.NoError(t, err)
		advance(2 * time.Minute)
		_, err = keys.Key("a")
		require.ErrorIs(t, err, token.ErrNoKeys, "the key may have been withdrawn")
		require.ErrorIs(t, keys.Ready(t.Context()), token.ErrNoKeys)
		a.set(http.StatusOK, keySet(t, "a"))
		advance(time.Second)
		_, err = keys.Key("a")
		require.NoError(t, err)
	})
}

func TestAnUnknownKeyCausesAtMostOneFetchPerTenSeconds(t *testing.T) {
	t.Parallel()
	a := &auth{status: http.StatusOK, body: keySet(t, "a")}
	runKeys(t, a, func(t *testing.T, keys *token.Remote) {
		require.Equal(t, 1, a.times())
		for range 600 { // ten per second for a minute
			_, err := keys.Key("made up")
			require.Error(t, err)
			require.NotErrorIs(t, err, token.ErrNoKeys)
			advance(100 * time.Millisecond)
		}
		require.LessOrEqual(t, a.times(), 7)
		require.GreaterOrEqual(t, a.times(), 5)
		for i := 1; i < len(a.fetches); i++ {
			require.GreaterOrEqual(t, a.fetches[i].Sub(a.fetches[i-1]), 10*time.Second)
		}
		a.set(http.StatusOK, keySet(t, "a", "new"))
		_, _ = keys.Key("new")
		advance(11 * time.Second)
		_, err := keys.Key("new")
		require.NoError(t, err, "a new key is fetched within 10 s")
	})
}

func TestOnlyEd25519KeysAreAccepted(t *testing.T) {
	t.Parallel()
	good := token.PublicJWK("good", make(ed25519.PublicKey, ed25519.PublicKeySize))
	short := token.PublicJWK("short", make(ed25519.PublicKey, 5))
	rsa, curve, unnamed := good, good, good
	rsa.KeyType, rsa.KeyID = "RSA", "rsa"
	curve.Curve, curve.KeyID = "X25519", "curve"
	unnamed.KeyID = ""
	raw, err := json.Marshal(token.JWKS{Keys: []token.JWK{short, rsa, curve, unnamed, good}})
	require.NoError(t, err)
	a := &auth{status: http.StatusOK, body: string(raw)}
	runKeys(t, a, func(t *testing.T, keys *token.Remote) {
		for _, id := range []string{"short", "rsa", "curve", ""} {
			_, err := keys.Key(id)
			require.Error(t, err, id)
		}
		_, err := keys.Key("good")
		require.NoError(t, err)
	})
}

func TestKeysAreFetchedOverHTTP(t *testing.T) {
	t.Parallel()
	body := keySet(t, "a")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
	t.Cleanup(server.Close)
	keys := token.Fetch(server.URL, server.Client(), clock.System{}, telemetry.Nop())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- keys.Run(ctx) }()
	require.Eventually(t, func() bool { return keys.Ready(ctx) == nil }, time.Minute, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}
