package access

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/event/eventtest"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestEndedSessionsAreDeletedAfterTheLastTokenExpires(t *testing.T) {
	t.Parallel()
	c := clock.At(time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC))
	e := newEnded(time.Hour, c)
	ids := map[string]string{}
	for _, name := range []string{"agent", "first", "second", "third", "fourth", "another"} {
		ids[name] = event.NewID()
	}
	end := func(session string) { e.onSessionEnded(ids[session]) }
	has := func(session string) bool {
		return e.has(identity.Caller{AgentID: ids["agent"], SessionID: ids[session]})
	}
	end("first")
	require.True(t, has("first"))
	require.False(t, has("another"), "the agent itself is active")
	c.Advance(59 * time.Minute)
	end("second")
	c.Advance(2 * time.Minute)
	end("third") // starts a new generation
	require.True(t, has("first"))
	require.True(t, has("second"), "until the last token has expired")
	c.Advance(2 * time.Hour)
	end("fourth")
	require.False(t, has("first"))
	require.False(t, has("second"))
	require.True(t, has("third"))
	require.True(t, has("fourth"))
}

func TestAnInactiveAgentIsRefused(t *testing.T) {
	t.Parallel()
	e := newEnded(time.Hour, clock.System{})
	caller := identity.Caller{AgentID: event.NewID(), SessionID: event.NewID()}
	change := func(version int64, active bool) { e.onAgentChanged(caller.AgentID, version, active) }
	change(1, true)
	require.False(t, e.has(caller))
	change(2, false)
	require.True(t, e.has(caller))
	change(3, true)
	require.False(t, e.has(caller))
	change(2, false)
	require.False(t, e.has(caller), "an older version is ignored")
}

// A logout named the session in another spelling than the token.
func TestIDsAreComparedAsUUIDs(t *testing.T) {
	t.Parallel()
	e := newEnded(time.Hour, clock.System{})
	caller := identity.Caller{AgentID: event.NewID(), SessionID: event.NewID()}
	e.onSessionEnded("of no token")
	require.False(t, e.has(caller))
	e.onSessionEnded(strings.ToUpper(caller.SessionID))
	require.True(t, e.has(caller))
	caller = identity.Caller{AgentID: strings.ToUpper(event.NewID()), SessionID: event.NewID()}
	e.onAgentChanged(strings.ToLower(caller.AgentID), 1, false)
	require.True(t, e.has(caller))
	require.True(t, e.has(identity.Caller{AgentID: event.NewID(), SessionID: "?"}))
}

func TestAuthenticationChecksKeyAndSession(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(token.JWKS{Keys: []token.JWK{token.PublicJWK("k", public)}})
	}))
	t.Cleanup(auth.Close)
	cfg := bus.Defaults()
	cfg.Brokers = bustest.Broker(t)
	kafka, err := bus.Connect(cfg, "test", eventtest.Topics())
	require.NoError(t, err)
	t.Cleanup(kafka.Close)

	caller := identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: identity.Agent}
	text, err := token.Signer{KeyID: "k", Key: private, Clock: clock.System{}}.Sign(caller, time.Hour)
	require.NoError(t, err)
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.Header.Set("Authorization", "Bearer "+text)

	settings := Defaults()
	settings.AuthURL = auth.URL + "/"
	require.Empty(t, settings.Check())
	feed := Feed{Topic: eventtest.ThingsTopic, Watch: func(w *bus.Watcher, sessionEnded func(string), _ func(string, int64, bool)) {
		bus.Watch(w, eventtest.ThingChanged, func(e event.Received[eventtest.Thing]) { sessionEnded(e.Data.ID) })
	}}
	a := New(settings, feed, kafka, clock.System{}, telemetry.Nop())
	_, err = a.Authenticate(request)
	require.True(t, fault.Is(err, fault.Unavailable), "no token can be verified before it runs: %v", err)
	require.True(t, fault.Is(a.admit(caller), fault.Unavailable))
	require.Error(t, a.Ready(t.Context()))

	g := run.NewGroup(telemetry.Nop())
	a.Join(g)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-ended) })
	require.Eventually(t, func() bool { return a.Ready(t.Context()) == nil }, time.Minute, time.Millisecond)
	got, err := a.Authenticate(request)
	require.NoError(t, err)
	require.Equal(t, caller.SessionID, got.SessionID)

	end := eventtest.ThingChanged.New(time.Now(), eventtest.Thing{ID: caller.SessionID})
	bustest.Publish(t, kafka, eventtest.ThingsTopic, []outbox.Message{{Event: end}})
	require.Eventually(t, func() bool {
		_, err := a.Authenticate(request)
		return fault.Is(err, fault.Unauthenticated) && fault.Of(err).Code == "session_ended"
	}, time.Minute, time.Millisecond)
}

func TestInvalidSettings(t *testing.T) {
	t.Parallel()
	require.Len(t, Config{AuthURL: "auth:8080"}.Check(), 2)
	require.Len(t, Config{AuthURL: "http://auth:8080", TokenMinutes: maxTokenMinutes + 1}.Check(), 1)
	require.Len(t, Config{AuthURL: "http://proxy/auth", TokenMinutes: 1}.Check(), 1)
}
