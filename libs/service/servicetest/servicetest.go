// Package servicetest runs a whole service in a test: on a real PostgreSQL schema, a broker that speaks the Kafka protocol and
// the public keys of an auth whose tokens the test signs. Requests go in by HTTP and events by Kafka, as in production; what is
// outside of the platform is the test's to fake.
package servicetest

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Timeout is how long a test waits for what is expected to happen; on a busy machine much takes seconds.
const Timeout = 60 * time.Second

const pollInterval = 10 * time.Millisecond

// World is everything around one service. Make it with New, change its Config and Tel, then Start.
type World struct {
	T      testing.TB
	Config service.Config // of the service, for its own Config to embed
	Tel    telemetry.Set
	Log    *Log
	URL    string // of the running service
	DB     *pg.DB // the service's schema, to look into; after Start
	Signer token.Signer

	topics []event.Topic
	kafka  *bus.Kafka
	stop   func()
}

// New makes a world for the service of that name.
func New(t testing.TB, name string, topics []event.Topic) *World {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	w := &World{T: t, Config: service.Defaults(), Log: &Log{}, topics: topics, Signer: token.Signer{KeyID: "k1", Key: private, Clock: clock.System{}}}
	w.Tel = telemetry.Nop()
	w.Tel.Service = name
	w.Tel.Log = slog.New(slog.NewJSONHandler(w.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	keys := Serve(t, func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(token.JWKS{Keys: []token.JWK{token.PublicJWK("k1", public)}})
	})
	verified := access.Defaults()
	verified.AuthURL = keys
	w.Config.Access = &verified
	w.Config.HTTP.Addr, w.Config.Admin.Addr = "127.0.0.1:0", "127.0.0.1:0"
	w.Config.Database.URL = conf.Secret(pgtest.Schema(t))
	w.Config.Kafka.Brokers = bustest.Broker(t)
	return w
}

// Serve starts an HTTP server that ends with the test, and returns its address.
func Serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// Start runs the service until Stop or the end of the test, and returns when it is ready. A stopped one can be started again.
func (w *World) Start(new func(ctx context.Context, tel telemetry.Set) (*service.App, error)) {
	w.T.Helper()
	app, err := new(w.T.Context(), w.Tel)
	require.NoError(w.T, err)
	w.stop = Run(w.T, app)
	w.URL = "http://" + app.Addr()
	w.Await("the service is ready", func() bool { return app.Ready(w.T.Context()) == nil })
	if w.DB == nil {
		w.DB, err = pg.Open(w.T.Context(), w.Config.Database, w.Tel.Service, telemetry.Nop())
		require.NoError(w.T, err)
		w.T.Cleanup(w.DB.Close)
	}
}

// Stop ends the service in order.
func (w *World) Stop() { w.stop() }

// Replica starts one more of a service that runs already, with the same database, broker and log.
func (w *World) Replica(new func(ctx context.Context, tel telemetry.Set) (*service.App, error)) *World {
	w.T.Helper()
	r := *w
	r.Tel.Metrics = telemetry.Nop().Metrics // a registry takes each metric once
	r.Start(new)
	return &r
}

// In is the world in a subtest, which fails instead of the whole test.
func (w *World) In(t testing.TB) *World {
	r := *w
	r.T = t
	return &r
}

// Run runs an actor until stop is called or the test ends, and requires that it ends well.
func Run(t testing.TB, a run.Actor) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	t.Cleanup(stop)
	return stop
}

// Caller is a new agent with a session of its own.
func (w *World) Caller(role identity.Role) identity.Caller {
	return identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: role}
}

// Kafka is a connection to the broker.
func (w *World) Kafka() *bus.Kafka {
	w.T.Helper()
	if w.kafka == nil {
		k, err := bus.Connect(w.Config.Kafka, w.topics)
		require.NoError(w.T, err)
		w.T.Cleanup(k.Close)
		w.kafka = k
	}
	return w.kafka
}

// Publish puts events on Kafka as the service that owns them does.
func (w *World) Publish(events ...event.Event) {
	w.T.Helper()
	var messages []outbox.Message
	for _, e := range events {
		messages = append(messages, outbox.Message{Event: e})
	}
	require.NoError(w.T, w.Kafka().Publish(w.T.Context(), messages))
}

// Published reads the first n events of a topic, as "type version" by key.
func (w *World) Published(topic string, n int) map[string][]string {
	w.T.Helper()
	byKey := map[string][]string{}
	for _, m := range bustest.Read(w.T, w.Config.Kafka.Brokers, topic, n) {
		var state struct{ Version json.Number }
		require.NoError(w.T, json.Unmarshal(m.Value, &state))
		for _, h := range m.Headers {
			if h.Key == "ce_type" {
				byKey[string(m.Key)] = append(byKey[string(m.Key)], string(h.Value)+" "+state.Version.String())
			}
		}
	}
	return byKey
}

// Await waits until something is true.
func (w *World) Await(what string, is func() bool) {
	w.T.Helper()
	require.Eventually(w.T, is, Timeout, pollInterval, what)
}

// AwaitRow waits until a query that gives a boolean is true.
func (w *World) AwaitRow(sql string, args ...any) {
	w.T.Helper()
	w.Await(sql, func() bool {
		var ok bool
		err := w.DB.Conn(w.T.Context()).QueryRow(w.T.Context(), sql, args...).Scan(&ok)
		return err == nil && ok
	})
}

// Log is a log that can be read while it is written.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String is everything that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
