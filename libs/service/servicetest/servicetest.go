// Package servicetest runs a whole service in a test: with a real PostgreSQL schema, an in-memory Kafka broker, and a key server
// in place of auth, so that the test can sign tokens. Requests are sent over HTTP and events over Kafka, as in production. The
// test must fake systems outside the platform itself.
package servicetest

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
	"github.com/convoflow/convoflow/libs/telemetry/telemetrytest"
)

// Timeout is how long a test waits for an expected result. On a busy machine, many operations take seconds.
const Timeout = 60 * time.Second

// A condition is checked again after a tenth of the time that it has not been true, within these bounds: on a busy machine, frequent
// checks would delay what they wait for.
const minInterval, maxInterval = 10 * time.Millisecond, 250 * time.Millisecond

// World is the environment of one service. Create it with New, change its Config and Tel, then call Start.
type World struct {
	T      testing.TB
	Config service.Config // for the service's own Config to embed
	Tel    telemetry.Set
	Log    *telemetrytest.Log
	URL    string // base URL of the running service
	DB     *pg.DB // the service's schema; set by Start
	Signer token.Signer

	Agent, Other, Admin identity.Caller // who calls the service: two agents and an admin

	topics []event.Topic
	kafka  *bus.Kafka
	logs   map[string]*bustest.Log // by topic
	stop   func()
}

// New returns the environment for the service with the given contract. Its tables are there already.
func New(t testing.TB, contract service.Contract) *World {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	w := &World{T: t, Config: service.Defaults(), Log: &telemetrytest.Log{}, topics: contract.Topics, logs: map[string]*bustest.Log{}, Signer: token.Signer{KeyID: "k1", Key: private, Clock: clock.System{}}}
	w.Agent, w.Other, w.Admin = w.Caller(identity.Agent), w.Caller(identity.Agent), w.Caller(identity.Admin)
	w.Tel = telemetry.Nop()
	w.Tel.Service = contract.Name
	w.Tel.Log = slog.New(slog.NewJSONHandler(w.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	keys := Serve(t, func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(token.JWKS{Keys: []token.JWK{token.PublicJWK("k1", public)}})
	})
	settings := access.Defaults()
	settings.AuthURL = keys
	w.Config.Access = &settings
	w.Config.HTTP.Addr, w.Config.Admin.Addr = "127.0.0.1:0", "127.0.0.1:0"
	w.Config.Database.URL = conf.Secret(pgtest.Migrated(t, service.Migrations(contract)...))
	w.Config.Kafka.Brokers = bustest.Broker(t)
	return w
}

// Auth serves the keys of World and a list of revocations, and returns its URL, for a test without Kafka. list fills the list; if it
// returns false, the answer is 503.
func (w *World) Auth(list func(*access.Revocations) bool) string {
	w.T.Helper()
	public := w.Signer.Key.Public().(ed25519.PublicKey)
	return Serve(w.T, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != access.RevocationsPath {
			_ = json.NewEncoder(rw).Encode(token.JWKS{Keys: []token.JWK{token.PublicJWK(w.Signer.KeyID, public)}})
			return
		}
		l := access.Revocations{Nonce: r.URL.Query().Get("nonce")}
		if !list(&l) {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body, signature, err := l.Sign(w.Signer.SignText)
		if err != nil {
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		rw.Header().Set(access.SignatureHeader, signature)
		_, _ = rw.Write(body)
	})
}

// Serve starts an HTTP server that stops when the test ends, and returns its URL.
func Serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// Start runs the service until Stop or the end of the test, and returns when it is ready. After Stop it can be called again.
func (w *World) Start(new func(ctx context.Context, tel telemetry.Set) (*service.App, error)) {
	w.T.Helper()
	app := w.Begin(new)
	w.Await("the service is ready", func() bool { return app.Ready(w.T.Context()) == nil })
	if w.DB == nil {
		var err error
		w.DB, err = pg.Open(w.T.Context(), w.Config.Database, w.Tel.Service, telemetry.Nop())
		require.NoError(w.T, err)
		w.T.Cleanup(w.DB.Close)
	}
}

// Begin is Start for a service that is not expected to become ready by itself. It does not set DB.
func (w *World) Begin(new func(ctx context.Context, tel telemetry.Set) (*service.App, error)) *service.App {
	w.T.Helper()
	app, err := new(w.T.Context(), w.Tel)
	require.NoError(w.T, err)
	w.stop = Run(w.T, app)
	w.URL = "http://" + app.Addr()
	return app
}

// Stop stops the service and waits until it has stopped.
func (w *World) Stop() { w.stop() }

// Replica starts another replica of a running service, with the same database, broker and log.
func (w *World) Replica(new func(ctx context.Context, tel telemetry.Set) (*service.App, error)) *World {
	w.T.Helper()
	r := *w
	r.Tel.Metrics = telemetry.Nop().Metrics // a metric can be registered only once per registry
	r.Start(new)
	return &r
}

// In returns the World for a subtest, so that failures belong to the subtest.
func (w *World) In(t testing.TB) *World {
	r := *w
	r.T = t
	return &r
}

// Run runs an actor until stop is called or the test ends. The test fails if the actor returns an error.
func Run(t testing.TB, a run.Actor) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() { // which must not end the goroutine: OnceFunc would panic, and end all tests
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the actor failed: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// Caller returns a new agent with a new session.
func (w *World) Caller(role identity.Role) identity.Caller {
	return identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: role}
}

// Kafka returns a connection to the broker.
func (w *World) Kafka() *bus.Kafka {
	w.T.Helper()
	if w.kafka == nil {
		k, err := bus.Connect(w.Config.Kafka, "test", w.topics)
		require.NoError(w.T, err)
		w.T.Cleanup(k.Close)
		w.kafka = k
	}
	return w.kafka
}

// Publish publishes events to Kafka, in place of the service that owns them.
func (w *World) Publish(events ...event.Event) {
	w.T.Helper()
	for _, e := range events {
		w.PublishMessage(outbox.Message{Event: e})
	}
}

// PublishMessage publishes one event in a trace.
func (w *World) PublishMessage(m outbox.Message) {
	w.T.Helper()
	bustest.Publish(w.T, w.Kafka(), m.Topic, []outbox.Message{m})
}

// Published returns the first n events of a topic by key, each as "type version".
func (w *World) Published(topic string, n int) map[string][]string {
	w.T.Helper()
	byKey := map[string][]string{}
	for _, m := range bustest.Read(w.T, w.Config.Kafka.Brokers, topic, n) {
		byKey[string(m.Key)] = append(byKey[string(m.Key)], bustest.Describe(w.T, m))
	}
	return byKey
}

// Follow returns what was and will be published to a topic. It is one consumer for all that ask.
func (w *World) Follow(topic string) *bustest.Log {
	w.T.Helper()
	if w.logs[topic] == nil {
		w.logs[topic] = bustest.Follow(w.T, w.Config.Kafka.Brokers, topic)
	}
	return w.logs[topic]
}

// Await waits until condition returns true. what describes the condition for the failure message.
func (w *World) Await(what string, condition func() bool) {
	w.T.Helper()
	for waited := clock.Stopwatch(); !condition(); <-time.After(min(max(waited()/10, minInterval), maxInterval)) {
		require.Less(w.T, waited(), Timeout, what)
	}
}

// AwaitRow waits until a query returns true. The query must return one boolean.
func (w *World) AwaitRow(sql string, args ...any) {
	w.T.Helper()
	w.Await(sql, func() bool {
		var ok bool
		err := w.DB.Conn(w.T.Context()).QueryRow(w.T.Context(), sql, args...).Scan(&ok)
		return err == nil && ok
	})
}
