package gateway

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/convoflow/convoflow/gateway/internal/guard"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/libs/telemetry/telemetrytest"
)

const (
	// timeout is how long a test waits for an expected result. On a busy machine, many operations take seconds.
	timeout = time.Minute
	// beforeStall is how long a client waits whose request stalls: the response must not come from the end of the stall.
	beforeStall = guard.StallTimeout * 2 / 3
)

// fixture is a running gateway with four fake services.
type fixture struct {
	url      string
	cfg      Config
	services map[string]*service
	signer   token.Signer
	brokers  []string
	spans    *tracetest.InMemoryExporter
	log      *lines
	tel      telemetry.Set
}

// service is a fake service whose handler can be changed while it runs.
type service struct {
	server   *httptest.Server
	handler  atomic.Pointer[http.HandlerFunc]
	notReady atomic.Bool
	warning  atomic.Pointer[string] // in /ready
	calls    atomic.Int64           // requests for the API
}

func (s *service) respond(h http.HandlerFunc) { s.handler.Store(&h) }

// newFixture starts a gateway; change may modify its configuration.
func newFixture(t *testing.T, change func(*Config)) *fixture {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	f := &fixture{services: map[string]*service{}, spans: tracetest.NewInMemoryExporter(), log: &lines{}, tel: telemetry.Nop()}
	f.signer = token.Signer{KeyID: "test", Key: private, Clock: clock.System{}}
	f.tel.Log = slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.tel.Traces = sdktrace.NewTracerProvider(sdktrace.WithSyncer(f.spans))
	f.tel.Version = "1.2.3"
	for _, name := range []string{"auth", "calls", "crm", "notify"} {
		f.services[name] = newService(t, f.tel, token.JWKS{Keys: []token.JWK{token.PublicJWK("test", public)}})
	}
	cfg := Defaults()
	f.brokers = bustest.Broker(t)
	cfg.Kafka.Brokers = f.brokers
	cfg.HTTP.Addr, cfg.Admin.Addr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Access.AuthURL, cfg.CallsURL = f.services["auth"].server.URL, f.services["calls"].server.URL
	cfg.CRMURL, cfg.NotifyURL = f.services["crm"].server.URL, f.services["notify"].server.URL
	if change != nil {
		change(&cfg)
	}
	f.cfg = cfg
	app := f.run(t, cfg)
	require.Eventually(t, func() bool { return app.Ready(t.Context()) == nil }, timeout, time.Millisecond)
	f.url = "http://" + app.Addr()
	return f
}

func (f *fixture) run(t *testing.T, cfg Config) *run.App {
	t.Helper()
	app, err := New(t.Context(), cfg, f.tel)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return app
}

// metrics returns a metric in the Prometheus text format.
func (f *fixture) metrics(t *testing.T, name string) string {
	t.Helper()
	families, err := f.tel.Metrics.Gather()
	require.NoError(t, err)
	var text strings.Builder
	for _, family := range families {
		if family.GetName() == name {
			_, err := expfmt.MetricFamilyToText(&text, family)
			require.NoError(t, err)
		}
	}
	return text.String()
}

// echoID responds with the id of the request, as libs/rpc does.
func echoID(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-ID", r.Header.Get("X-Request-ID"))
		next(w, r)
	}
}

func newService(t *testing.T, tel telemetry.Set, keys token.JWKS) *service {
	t.Helper()
	s := &service{}
	s.respond(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ok":true}`)
	})
	ready := func(context.Context) error {
		if s.notReady.Load() {
			return context.DeadlineExceeded
		}
		if w := s.warning.Load(); w != nil {
			return run.Warnings{*w}
		}
		return nil
	}
	s.server = httptest.NewServer(run.WithHealth(tel, ready, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/jwks.json" {
			_ = json.NewEncoder(w).Encode(keys)
			return
		}
		if r.URL.Path == access.RevocationsPath { // the gateway itself asks auth; Kafka is there, so it needs no answer
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.calls.Add(1)
		echoID(*s.handler.Load())(w, r)
	})))
	t.Cleanup(s.server.Close)
	return s
}

// token returns an access token.
func (f *fixture) token(t *testing.T, role identity.Role) string {
	t.Helper()
	text, err := f.signer.Sign(identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: role}, time.Hour)
	require.NoError(t, err)
	return text
}

// agent makes a request with an agent's token.
func (f *fixture) agent(t *testing.T, method, path string, body io.Reader) *http.Request {
	t.Helper()
	req := f.request(t, method, path, body)
	req.Header.Set("Authorization", "Bearer "+f.token(t, identity.Agent))
	return req
}

func (f *fixture) request(t *testing.T, method, path string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, f.url+path, body)
	require.NoError(t, err)
	return req
}

// client does not request compression by itself.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
}

// do sends a request and reads its whole response.
func do(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := client().Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(body)
}

// requireError requires a JSON error response.
func requireError(t *testing.T, res *http.Response, body string, status int, code string) {
	t.Helper()
	require.Equal(t, status, res.StatusCode, body)
	require.Equal(t, "application/json", res.Header.Get("Content-Type"))
	var shape map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &shape), body)
	require.Equal(t, code, shape["code"])
	require.NotEmpty(t, shape["detail"])
	require.Equal(t, res.Header.Get("X-Request-ID"), shape["request_id"])
	require.NotEmpty(t, shape["request_id"])
	requireSecure(t, res)
}

func requireSecure(t *testing.T, res *http.Response) {
	t.Helper()
	require.Equal(t, []string{"nosniff"}, res.Header.Values("X-Content-Type-Options"))
	require.Equal(t, []string{"DENY"}, res.Header.Values("X-Frame-Options"))
	require.Equal(t, []string{"no-referrer"}, res.Header.Values("Referrer-Policy"))
	require.Contains(t, res.Header.Get("Content-Security-Policy"), "default-src 'none'")
	require.Len(t, res.Header.Values("X-Request-ID"), 1)
	require.Empty(t, res.Header.Get("Server"))
}

// lines is a log of requests.
type lines struct{ telemetrytest.Log }

// find waits for a line about a request that contains the words, and returns it.
func (l *lines) find(t *testing.T, words ...string) string {
	t.Helper()
	var found string
	require.Eventually(t, func() bool {
		for line := range strings.SplitSeq(l.String(), "\n") {
			all := strings.Contains(line, `"msg":"request"`)
			for _, word := range words {
				all = all && strings.Contains(line, word)
			}
			if all {
				found = line
				return true
			}
		}
		return false
	}, timeout, time.Millisecond, "no line with %v", words)
	return found
}
