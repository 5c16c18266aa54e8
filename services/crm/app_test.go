package crm_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// app is the real service with a real database and a broker; auth and calls are fakes that speak HTTP.
type app struct {
	t       *testing.T
	url     string
	brokers []string
	db      *pg.DB // the service's schema, to look into
	signer  token.Signer
	agent   identity.Caller
	other   identity.Caller
	admin   identity.Caller
	calls   atomic.Pointer[http.HandlerFunc]
}

// callsSay is what the calls service answers from now on.
func (a *app) callsSay(h http.HandlerFunc) { a.calls.Store(&h) }

func start(t *testing.T) *app {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	caller := func(role identity.Role) identity.Caller {
		return identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: role}
	}
	a := &app{
		t: t, brokers: bustest.Broker(t), signer: token.Signer{KeyID: "k1", Key: private, Clock: clock.System{}},
		agent: caller(identity.Agent), other: caller(identity.Agent), admin: caller(identity.Admin),
	}
	a.callsSay(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"detail":"Call not found","code":"call_not_found"}`, http.StatusNotFound)
	})
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/jwks.json" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(token.JWKS{Keys: []token.JWK{token.PublicJWK("k1", public)}})
	}))
	t.Cleanup(auth.Close)
	calls := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*a.calls.Load())(w, r) }))
	t.Cleanup(calls.Close)

	cfg := crm.Defaults()
	cfg.HTTP.Addr, cfg.Admin.Addr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Database.URL = conf.Secret(pgtest.Schema(t))
	cfg.Kafka.Brokers = a.brokers
	cfg.Access.AuthURL, cfg.CallsURL = auth.URL, calls.URL
	require.Empty(t, cfg.Check())
	tel := telemetry.Nop()
	tel.Service = "crm"
	service, err := crm.New(t.Context(), cfg, tel)
	require.NoError(t, err)
	var running errgroup.Group
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	running.Go(func() error { return service.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		require.NoError(t, running.Wait())
	})
	a.url = "http://" + service.Addr()
	require.Eventually(t, func() bool { return service.Ready(t.Context()) == nil }, 10*time.Second, 10*time.Millisecond)
	a.db, err = pg.Open(t.Context(), cfg.Database, "crm", telemetry.Nop())
	require.NoError(t, err)
	t.Cleanup(a.db.Close)
	return a
}

// answer is what the service said.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

func (a answer) is(status int) answer {
	a.t.Helper()
	require.Equal(a.t, status, a.status, a.body)
	return a
}

// fails checks the status and code of an error.
func (a answer) fails(status int, code string) answer {
	a.t.Helper()
	a.is(status)
	object := a.object()
	require.Equal(a.t, code, object["code"])
	require.NotEmpty(a.t, object["request_id"])
	require.NotEmpty(a.t, object["detail"])
	return a
}

func (a answer) object() map[string]any {
	a.t.Helper()
	var object map[string]any
	require.NoError(a.t, json.Unmarshal([]byte(a.body), &object), a.body)
	return object
}

func (a answer) text(name string) string {
	a.t.Helper()
	text, _ := a.object()[name].(string)
	return text
}

// ids are those of a list.
func (a answer) ids() []string {
	a.t.Helper()
	var list []struct{ ID string }
	require.NoError(a.t, json.Unmarshal([]byte(a.body), &list), a.body)
	ids := []string{}
	for _, item := range list {
		ids = append(ids, item.ID)
	}
	return ids
}

// do sends a request; a caller without a role sends no token. header is name, value, ….
func (a *app) do(as identity.Caller, method, path, body string, header ...string) answer {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, bytes.NewBufferString(body))
	require.NoError(a.t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if as.Role != "" {
		text, err := a.signer.Sign(as, time.Hour)
		require.NoError(a.t, err)
		req.Header.Set("Authorization", "Bearer "+text)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(a.t, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(a.t, err)
	return answer{t: a.t, status: res.StatusCode, header: res.Header, body: string(raw)}
}

// client makes a client of the agent and returns its id.
func (a *app) client(as identity.Caller, body string) string {
	a.t.Helper()
	return a.do(as, "POST", "/clients", body).is(http.StatusCreated).text("id")
}

// call lets the service hear of a call of the agent and returns its id.
func (a *app) call(owner identity.Caller, edits ...func(*events.Call)) string {
	a.t.Helper()
	c := events.Call{CallID: event.NewID(), Version: 1, AgentID: owner.AgentID, Status: "pending"}
	for _, edit := range edits {
		edit(&c)
	}
	a.publish(events.CallUploaded.New(clock.System{}.Now(), c))
	a.eventually(`select exists (select from calls where id = $1)`, c.CallID)
	return c.CallID
}

// publish puts events on Kafka as the service that owns them does.
func (a *app) publish(events ...event.Event) {
	a.t.Helper()
	cfg := bus.Defaults()
	cfg.Brokers = a.brokers
	k, err := bus.Connect(cfg)
	require.NoError(a.t, err)
	defer k.Close()
	var messages []outbox.Message
	for _, e := range events {
		messages = append(messages, outbox.Message{Event: e})
	}
	require.NoError(a.t, k.Publish(a.t.Context(), messages))
}

// eventually waits until a query that gives a boolean is true.
func (a *app) eventually(sql string, args ...any) {
	a.t.Helper()
	require.Eventually(a.t, func() bool {
		var ok bool
		err := a.db.Conn(a.t.Context()).QueryRow(a.t.Context(), sql, args...).Scan(&ok)
		return err == nil && ok
	}, 20*time.Second, 20*time.Millisecond, sql)
}

// followUp schedules a follow-up and returns its id.
func (a *app) followUp(as identity.Caller, callID, due string) string {
	a.t.Helper()
	return a.do(as, "POST", "/followups", `{"call_id":"`+callID+`","due_date":"`+due+`"}`).is(http.StatusCreated).text("id")
}

// published reads the first n events of a topic, as "type version" by key.
func (a *app) published(topic string, n int) map[string][]string {
	a.t.Helper()
	byKey := map[string][]string{}
	for _, m := range bustest.Read(a.t, a.brokers, topic, n) {
		var state struct{ Version json.Number }
		require.NoError(a.t, json.Unmarshal(m.Value, &state))
		for _, h := range m.Headers {
			if h.Key == "ce_type" {
				byKey[string(m.Key)] = append(byKey[string(m.Key)], strings.Join([]string{string(h.Value), state.Version.String()}, " "))
			}
		}
	}
	return byKey
}
