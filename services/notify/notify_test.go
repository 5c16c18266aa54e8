package notify_test

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	secret  = "a webhook secret"
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	patient = 30 * time.Second
	often   = 20 * time.Millisecond
)

// world is everything around a notify: database, broker, auth's keys, a receiver of webhooks.
type world struct {
	t        *testing.T
	cfg      notify.Config
	signer   token.Signer
	kafka    *bus.Kafka
	receiver *httptest.Server
	log      *logged
	metrics  *prometheus.Registry

	mu     sync.Mutex
	got    []request
	answer http.HandlerFunc
}

type request struct {
	header http.Header
	body   string
}

// logged is a log that can be read while it is written.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func build(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, log: &logged{}, answer: func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(`{"status":"success"}`)) }}
	w.receiver = httptest.NewServer(http.HandlerFunc(w.receive))
	t.Cleanup(w.receiver.Close)

	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	w.signer = token.Signer{KeyID: "k1", Key: private, Clock: clock.System{}}
	keys := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(token.JWKS{Keys: []token.JWK{token.PublicJWK("k1", public)}})
	}))
	t.Cleanup(keys.Close)

	cfg := notify.Defaults()
	cfg.HTTP.Addr, cfg.Admin.Addr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Database.URL, cfg.Kafka.Brokers = conf.Secret(pgtest.Schema(t)), bustest.Broker(t)
	cfg.SecretKey, cfg.Access.AuthURL = "Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE", keys.URL
	cfg.WebhookURL, cfg.WebhookSecret = conf.Secret(w.receiver.URL+"/workflow/hush-hush"), secret
	cfg.AllowPrivate = []string{"127.0.0.0/8"}
	cfg.PublicURL = "https://crm.example.com"
	require.Empty(t, cfg.Check())
	w.cfg = cfg
	w.kafka, err = bus.Connect(cfg.Kafka)
	require.NoError(t, err)
	t.Cleanup(w.kafka.Close)
	return w
}

func (w *world) receive(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	w.got = append(w.got, request{r.Header, string(body)})
	answer := w.answer
	w.mu.Unlock()
	answer(rw, r)
}

func (w *world) answers(with http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = with
}

func (w *world) requests() []request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]request(nil), w.got...)
}

func (w *world) await(n int) []request {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return len(w.requests()) >= n }, patient, often)
	return w.requests()
}

// start runs a notify until the returned function is called or the test ends.
func (w *world) start() (url string, stop func()) {
	w.t.Helper()
	tel, flush, err := telemetry.New(w.t.Context(), "notify", "1.2.3", telemetry.Config{LogLevel: slog.LevelDebug, LogFormat: "json"}, w.log)
	require.NoError(w.t, err)
	w.metrics = tel.Metrics
	app, err := notify.New(w.t.Context(), w.cfg, tel)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(w.t, <-ended)
		assert.NoError(w.t, flush(ctx))
	})
	w.t.Cleanup(stop)
	require.Eventually(w.t, func() bool { return app.Ready(w.t.Context()) == nil }, patient, often)
	return "http://" + app.Addr(), stop
}

func (w *world) publish(events ...event.Event) {
	w.t.Helper()
	var messages []outbox.Message
	for _, e := range events {
		e.Source = "/convoflow/test"
		messages = append(messages, outbox.Message{Event: e, Trace: map[string]string{"traceparent": "00-" + traceID + "-00f067aa0ba902b7-01"}})
	}
	require.NoError(w.t, w.kafka.Publish(w.t.Context(), messages))
}

func (w *world) get(url string, role identity.Role, into any) int {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url, nil)
	require.NoError(w.t, err)
	if role != "" {
		bearer, err := w.signer.Sign(identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: role}, time.Hour)
		require.NoError(w.t, err)
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer func() { _ = res.Body.Close() }()
	if into != nil {
		require.NoError(w.t, json.NewDecoder(res.Body).Decode(into))
	}
	return res.StatusCode
}

func mac(content string) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(content))
	return h.Sum(nil)
}

func ptr[T any](v T) *T { return &v }

var (
	at    = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	agent = events.Agent{AgentID: event.NewID(), Version: 1, Email: "asha@example.com", FullName: "Asha Rao", Role: "agent", IsActive: true, CreatedAt: at, UpdatedAt: at}
)

func call() events.Call {
	return events.Call{CallID: event.NewID(), Version: 3, AgentID: agent.AgentID, CallType: "default", Status: "completed", Outcome: ptr("ok"), Summary: ptr("Meera wants the quote."), CreatedAt: at, UpdatedAt: at}
}

// delivered is a delivery as the API shows it.
type delivered struct {
	ID       string         `json:"id"`
	Event    string         `json:"event"`
	EventID  string         `json:"event_id"`
	CallID   string         `json:"call_id"`
	Status   string         `json:"status"`
	Attempts int            `json:"attempts"`
	Reason   *string        `json:"reason"`
	Payload  map[string]any `json:"payload"`
	Log      []struct {
		Number     int    `json:"number"`
		StatusCode int    `json:"status_code"`
		Answer     string `json:"answer"`
		TraceID    string `json:"trace_id"`
	} `json:"attempt_log"`
}

func (w *world) awaitStatus(url, callID, status string) delivered {
	w.t.Helper()
	var list []delivered
	require.Eventually(w.t, func() bool {
		return w.get(url+"/webhooks/deliveries?call_id="+callID, identity.Admin, &list) == http.StatusOK && len(list) == 1 && list[0].Status == status
	}, patient, often)
	return list[0]
}

func TestAnEventBecomesAWebhook(t *testing.T) {
	t.Parallel()
	w := build(t)
	url, _ := w.start()
	client := events.Client{ClientID: event.NewID(), Version: 1, AgentID: agent.AgentID, Name: "Meera Nair", Phone: ptr("+919876543210"), CreatedAt: at, UpdatedAt: at}
	c := call()
	c.ClientID = &client.ClientID
	event := events.TranscriptionCompleted.New(at, c)
	w.publish(event)
	w.publish(events.AgentRegistered.New(at, agent), events.ClientCreated.New(at, client), event) // people late, the event twice

	r := w.await(1)[0]
	require.Equal(t, hex.EncodeToString(mac(r.body)), r.header.Get("X-Pabbly-Signature"))
	signed := r.header.Get("webhook-id") + "." + r.header.Get("webhook-timestamp") + "." + r.body
	require.Equal(t, "v1,"+base64.StdEncoding.EncodeToString(mac(signed)), r.header.Get("webhook-signature"))
	require.Equal(t, event.ID, r.header.Get("webhook-id"))
	require.Equal(t, "transcription.completed", r.header.Get("X-Pabbly-Event"))
	require.Equal(t, "Convoflow/1.2.3", r.header.Get("User-Agent"))
	require.Contains(t, r.header.Get("traceparent"), traceID, "one trace from the upload to the webhook")
	var fields map[string]any
	require.NoError(t, json.Unmarshal([]byte(r.body), &fields))
	require.Equal(t, event.ID, fields["event_id"])
	require.Equal(t, "Asha Rao", fields["agent_name"])
	require.Equal(t, "Meera Nair", fields["client_name"])
	require.Equal(t, "https://crm.example.com/calls/"+c.CallID, fields["call_url"])

	followUp := events.FollowUpScheduled.New(at, events.FollowUp{FollowUpID: event.NewID(), Version: 1, CallID: c.CallID, AgentID: agent.AgentID, DueDate: at.Add(24 * time.Hour), Status: "pending", Source: "agent", CreatedAt: at, UpdatedAt: at})
	w.publish(followUp)
	require.Equal(t, "followup.scheduled", w.await(2)[1].header.Get("X-Pabbly-Event"))

	var list []delivered
	require.Eventually(t, func() bool {
		w.get(url+"/webhooks/deliveries?status=delivered", identity.Admin, &list)
		return len(list) == 2
	}, patient, often)
	var d delivered
	require.Equal(t, http.StatusOK, w.get(url+"/webhooks/deliveries/"+list[1].ID, identity.Admin, &d))
	require.Equal(t, event.ID, d.EventID)
	require.Equal(t, fields, d.Payload)
	require.Len(t, d.Log, 1)
	require.Equal(t, 200, d.Log[0].StatusCode)
	require.JSONEq(t, `{"status":"success"}`, d.Log[0].Answer)
	require.Equal(t, traceID, d.Log[0].TraceID)

	told := bustest.Read(t, w.cfg.Kafka.Brokers, events.DeliveriesTopic, 2)
	var payload events.Delivery
	require.NoError(t, json.Unmarshal(told[0].Value, &payload))
	require.Equal(t, "delivered", payload.Status)
	require.Len(t, w.requests(), 2, "the duplicate made no delivery")
	for _, personal := range []string{"hush-hush", "Meera", "9876543210", "Asha", "asha@", secret} {
		require.NotContains(t, w.log.String(), personal)
	}
}

func TestAFailedWebhookIsSentAgain(t *testing.T) {
	t.Parallel()
	w := build(t)
	url, _ := w.start()
	w.publish(events.AgentRegistered.New(at, agent))
	w.answers(func(rw http.ResponseWriter, _ *http.Request) {
		http.Error(rw, "not now", http.StatusInternalServerError)
	})
	c := call()
	w.publish(events.TranscriptionCompleted.New(at, c))
	d := w.awaitStatus(url, c.CallID, "retrying")
	require.Equal(t, "status_500", *d.Reason)
	w.answers(func(http.ResponseWriter, *http.Request) {})
	d = w.awaitStatus(url, c.CallID, "delivered")
	require.Equal(t, 2, d.Attempts)
	require.Equal(t, map[string]float64{"retrying": 1, "delivered": 1}, w.counts("convoflow_notify_deliveries_total"))
	require.Contains(t, w.counts("convoflow_notify_backlog_deliveries"), "dead")
	require.Contains(t, w.counts("convoflow_notify_oldest_delivery_seconds"), "retrying")
	got := w.requests()
	require.Equal(t, got[0].body, got[1].body)
	require.Equal(t, got[0].header.Get("webhook-id"), got[1].header.Get("webhook-id"))
	for _, r := range got {
		require.Contains(t, r.header.Get("traceparent"), traceID)
	}
}

// counts are the values of a metric by its one label.
func (w *world) counts(name string) map[string]float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	require.NoError(w.t, err)
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			out[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

func TestAStopGivesTheDeliveryToTheNextProcess(t *testing.T) {
	t.Parallel()
	w := build(t)
	_, stop := w.start()
	w.publish(events.AgentRegistered.New(at, agent))
	w.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := call()
	w.publish(events.TranscriptionCompleted.New(at, c))
	w.await(1)
	took := clock.Stopwatch()
	stop()
	require.Less(t, took(), 12*time.Second)
	w.answers(func(http.ResponseWriter, *http.Request) {})
	url, _ := w.start()
	w.awaitStatus(url, c.CallID, "delivered")
	got := w.requests()
	require.Len(t, got, 2)
	require.Equal(t, got[0].body, got[1].body)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	w := build(t)
	w.cfg.WebhookURL = ""
	url, _ := w.start()
	require.Equal(t, 1, strings.Count(w.log.String(), "no webhook endpoint is enabled"))
	unknown := "/webhooks/deliveries/" + event.NewID()
	for _, tt := range []struct {
		path string
		role identity.Role
		want int
	}{
		{"/webhooks/deliveries", "", 401},
		{"/webhooks/deliveries", identity.Agent, 403},
		{"/webhooks/deliveries", identity.Admin, 200},
		{"/webhooks/deliveries/?limit=500&skip=3&from=2026-01-01&to=2026-12-31T00:00:00Z&status=dead&event=x&webhook_id=" + event.NewID(), identity.Admin, 200},
		{"/webhooks/deliveries?limit=501", identity.Admin, 422},
		{"/webhooks/deliveries?status=lost", identity.Admin, 422},
		{"/webhooks/deliveries?call_id=1", identity.Admin, 422},
		{"/webhooks/deliveries?from=yesterday", identity.Admin, 422},
		{"/webhooks/deliveries?cursor=rubbish", identity.Admin, 422},
		{unknown, "", 401},
		{unknown, identity.Agent, 403},
		{unknown, identity.Admin, 404},
		{"/webhooks/deliveries/1", identity.Admin, 422},
		{"/webhooks", identity.Admin, 404},
		{"/health", "", 200},
		{"/ready", "", 200},
	} {
		var body any
		require.Equal(t, tt.want, w.get(url+tt.path, tt.role, &body), tt.path)
		if list, ok := body.([]any); ok {
			require.Empty(t, list)
		}
	}
}

func TestWrongSettings(t *testing.T) {
	t.Parallel()
	good := []string{"DATABASE_URL=postgres://x/y", "KAFKA_BROKERS=a:1", "SECRET_KEY=Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE", "AUTH_URL=http://auth"}
	for name, tt := range map[string]struct {
		environ []string
		want    string // part of the one problem; empty for none
	}{
		"no webhook":           {nil, ""},
		"webhook":              {[]string{"PABBLY_WEBHOOK_URL=https://connect.pabbly.com/x", "PABBLY_WEBHOOK_SECRET=s"}, ""},
		"secret alone":         {[]string{"PABBLY_WEBHOOK_SECRET=s"}, ""},
		"no secret":            {[]string{"PABBLY_WEBHOOK_URL=https://connect.pabbly.com/x"}, "PABBLY_WEBHOOK_SECRET is not set"},
		"bad secret":           {[]string{"PABBLY_WEBHOOK_SECRET=whsec_!"}, "PABBLY_WEBHOOK_SECRET must be base64"},
		"bad URL":              {[]string{"PABBLY_WEBHOOK_URL=hush", "PABBLY_WEBHOOK_SECRET=s"}, "PABBLY_WEBHOOK_URL must be"},
		"URL with credentials": {[]string{"PABBLY_WEBHOOK_URL=https://u:hush@x/", "PABBLY_WEBHOOK_SECRET=s"}, "PABBLY_WEBHOOK_URL must not"},
		"networks":             {[]string{"WEBHOOK_ALLOW_PRIVATE_CIDRS=10.0.0.0/8, ::1/128,"}, ""},
		"bad network":          {[]string{"WEBHOOK_ALLOW_PRIVATE_CIDRS=10.0.0.0"}, "WEBHOOK_ALLOW_PRIVATE_CIDRS"},
		"workers":              {[]string{"WEBHOOK_WORKERS=0"}, "WEBHOOK_WORKERS"},
		"public":               {[]string{"PUBLIC_URL=crm"}, "PUBLIC_URL"},
		"weak key":             {[]string{"SECRET_KEY=short"}, "SECRET_KEY"},
	} {
		_, err := conf.Load(notify.Defaults(), append(append([]string(nil), good...), tt.environ...))
		if tt.want == "" {
			require.NoError(t, err, name)
			continue
		}
		var wrong *conf.Error
		require.ErrorAs(t, err, &wrong, name)
		require.Len(t, wrong.Problems, 1, name)
		require.Contains(t, wrong.Problems[0], tt.want, name)
		require.NotContains(t, wrong.Problems[0], "hush", name)
	}
}
