package crm_test

import (
	"context"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// app is the running service and a fake calls service.
type app struct {
	*servicetest.World
	calls atomic.Pointer[http.HandlerFunc]
}

// callsAnswers sets the responses of the calls service.
func (a *app) callsAnswers(h http.HandlerFunc) { a.calls.Store(&h) }

func start(t *testing.T) *app {
	t.Helper()
	w := servicetest.New(t, crm.Contract())
	a := &app{World: w}
	a.callsAnswers(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"detail":"Call not found","code":"call_not_found"}`, http.StatusNotFound)
	})
	cfg := crm.Defaults()
	cfg.Config = w.Config
	cfg.Access.AuthURL = auth(t, cfg.Access.AuthURL)
	cfg.InboundSecret = inboundSecret
	cfg.CallsURL = servicetest.Serve(t, func(w http.ResponseWriter, r *http.Request) { (*a.calls.Load())(w, r) })
	require.Empty(t, cfg.Check())
	w.Start(func(ctx context.Context, tel telemetry.Set) (*service.App, error) { return crm.New(ctx, cfg, tel) })
	return a
}

// auth is the auth service: the keys of the World, and no agent whose event has not arrived.
func auth(t *testing.T, keys string) string {
	t.Helper()
	target, err := url.Parse(keys)
	require.NoError(t, err)
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	return servicetest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/agents/") {
			http.Error(w, `{"detail":"Agent not found","code":"agent_not_found"}`, http.StatusNotFound)
			return
		}
		forward.ServeHTTP(w, r)
	})
}

// client creates a client of the agent and returns its id.
func (a *app) client(as identity.Caller, body string) string {
	a.T.Helper()
	return a.Do(as, "POST", "/clients", body).Is(http.StatusCreated).Text("id")
}

// call publishes a call of the agent, waits for its copy and returns its id.
func (a *app) call(owner identity.Caller, edits ...func(*events.Call)) string {
	a.T.Helper()
	c := events.Call{CallID: event.NewID(), Version: 1, AgentID: owner.AgentID, Status: "pending"}
	for _, edit := range edits {
		edit(&c)
	}
	a.Publish(events.CallUploaded.New(clock.System{}.Now(), c))
	a.AwaitRow(`select exists (select from calls where id = $1)`, c.CallID)
	return c.CallID
}

// followUp schedules a follow-up and returns its id.
func (a *app) followUp(as identity.Caller, callID, due string) string {
	a.T.Helper()
	return a.Do(as, "POST", "/followups", `{"call_id":"`+callID+`","due_date":"`+due+`"}`).Is(http.StatusCreated).Text("id")
}
