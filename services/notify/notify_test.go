package notify_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify"
)

const (
	secret  = "a webhook secret"
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
)

// world is a running notify with a receiver of its webhooks.
type world struct {
	*servicetest.World
	cfg notify.Config

	mu     sync.Mutex
	got    []request
	answer http.HandlerFunc
}

type request struct {
	header http.Header
	body   string
}

func build(t *testing.T) *world {
	t.Helper()
	w := &world{World: servicetest.New(t, notify.Contract()), answer: func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(`{"status":"success"}`)) }}
	w.Tel.Version = "1.2.3"
	w.cfg = notify.Defaults()
	w.cfg.Config, w.cfg.SecretKey, w.cfg.PublicURL = w.Config, "Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE", "https://crm.example.com"
	w.cfg.WebhookURL, w.cfg.WebhookSecret = conf.Secret(servicetest.Serve(t, w.receive)+"/workflow/hush-hush"), secret
	w.cfg.AllowPrivate = []string{"127.0.0.0/8"}
	require.Empty(t, w.cfg.Check())
	return w
}

// start runs a notify until Stop or the end of the test. Each has metrics of its own, like a process.
func (w *world) start() {
	w.T.Helper()
	w.Tel.Metrics = telemetry.Nop().Metrics
	w.Start(func(ctx context.Context, tel telemetry.Set) (*service.App, error) { return notify.New(ctx, w.cfg, tel) })
}

func (w *world) receive(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	w.got = append(w.got, request{r.Header, string(body)})
	answer := w.answer
	w.mu.Unlock()
	answer(rw, r)
}

// answers sets how the receiver responds.
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

// awaitRequests waits until the receiver has received n requests.
func (w *world) awaitRequests(n int) []request {
	w.T.Helper()
	w.Await("a request arrives", func() bool { return len(w.requests()) >= n })
	return w.requests()
}

// publish publishes events to Kafka in a trace.
func (w *world) publish(events ...event.Event) {
	w.T.Helper()
	for _, e := range events {
		w.PublishMessage(outbox.Message{Event: e, Trace: map[string]string{"traceparent": "00-" + traceID + "-00f067aa0ba902b7-01"}})
	}
}

func mac(content string) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(content))
	return h.Sum(nil)
}

var (
	at    = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	agent = events.Agent{AgentID: event.NewID(), Version: 1, Email: "asha@example.com", FullName: "Asha Rao", Role: "agent", IsActive: true, CreatedAt: at, UpdatedAt: at}
)

func call() events.Call {
	return events.Call{CallID: event.NewID(), Version: 3, AgentID: agent.AgentID, CallType: "default", Status: "completed", Outcome: new("ok"), Summary: new("Meera wants the quote."), CreatedAt: at, UpdatedAt: at}
}

// delivered is a delivery as the API shows it.
type delivered struct {
	ID            string         `json:"id"`
	Event         string         `json:"event"`
	EventID       string         `json:"event_id"`
	CallID        string         `json:"call_id"`
	Status        string         `json:"status"`
	Attempts      int            `json:"attempts"`
	Reason        *string        `json:"reason"`
	NextAttemptAt *time.Time     `json:"next_attempt_at"`
	Payload       map[string]any `json:"payload"`
	Log           []struct {
		Number     int    `json:"number"`
		StatusCode int    `json:"status_code"`
		Answer     string `json:"answer"`
		TraceID    string `json:"trace_id"`
	} `json:"attempt_log"`
}

// into decodes a response.
func into[T any](w *world, a servicetest.Answer) (v T) {
	w.T.Helper()
	require.NoError(w.T, json.Unmarshal([]byte(a.Body), &v), a.Body)
	return v
}

func (w *world) list(query string) []delivered {
	w.T.Helper()
	return into[[]delivered](w, w.Get(w.Admin, "/webhooks/deliveries?"+query).Is(http.StatusOK))
}

// awaitStatus waits until the delivery of a call has a status.
func (w *world) awaitStatus(callID, status string) delivered {
	w.T.Helper()
	var list []delivered
	w.Await("the delivery is "+status, func() bool {
		list = w.list("call_id=" + callID)
		return len(list) == 1 && list[0].Status == status
	})
	return list[0]
}

func TestAnEventBecomesAWebhook(t *testing.T) {
	t.Parallel()
	w := build(t)
	w.start()
	client := events.Client{ClientID: event.NewID(), Version: 1, AgentID: agent.AgentID, Name: "Meera Nair", Phone: new("+919876543210"), CreatedAt: at, UpdatedAt: at}
	c := call()
	c.ClientID = &client.ClientID
	completed := events.TranscriptionCompleted.New(at, c)
	w.publish(completed)
	w.publish(events.AgentRegistered.New(at, agent), events.ClientCreated.New(at, client), completed) // the copies late, the event twice

	r := w.awaitRequests(1)[0]
	require.Equal(t, hex.EncodeToString(mac(r.body)), r.header.Get("X-Pabbly-Signature"))
	signed := r.header.Get("webhook-id") + "." + r.header.Get("webhook-timestamp") + "." + r.body
	require.Equal(t, "v1,"+base64.StdEncoding.EncodeToString(mac(signed)), r.header.Get("webhook-signature"))
	require.Equal(t, completed.ID, r.header.Get("webhook-id"))
	require.Equal(t, "transcription.completed", r.header.Get("X-Pabbly-Event"))
	require.Equal(t, "Convoflow/1.2.3", r.header.Get("User-Agent"))
	require.Contains(t, r.header.Get("traceparent"), traceID, "one trace from the upload to the webhook")
	var fields map[string]any
	require.NoError(t, json.Unmarshal([]byte(r.body), &fields))
	require.Equal(t, completed.ID, fields["event_id"])
	require.Equal(t, "Asha Rao", fields["agent_name"])
	require.Equal(t, "Meera Nair", fields["client_name"])
	require.Equal(t, "https://crm.example.com/calls/"+c.CallID, fields["call_url"])

	followUp := events.FollowUpScheduled.New(at, events.FollowUp{FollowUpID: event.NewID(), Version: 1, CallID: c.CallID, AgentID: agent.AgentID, DueDate: new(at.Add(24 * time.Hour)), Status: "pending", Source: "agent", CreatedAt: at, UpdatedAt: at})
	w.publish(followUp)
	require.Equal(t, "followup.scheduled", w.awaitRequests(2)[1].header.Get("X-Pabbly-Event"))

	w.awaitStatus(c.CallID+"&event=followup.scheduled", "delivered")
	first := w.awaitStatus(c.CallID+"&event=transcription.completed", "delivered")
	require.Len(t, w.list("status=delivered"), 2)
	shown := w.Get(w.Admin, "/webhooks/deliveries/"+first.ID).Is(http.StatusOK)
	d := into[delivered](w, shown)
	require.Equal(t, 1, d.Attempts)
	w.Get(w.Admin, "/webhooks/deliveries/"+first.ID, "If-None-Match", shown.Header.Get("ETag")).Is(http.StatusNotModified)
	require.Equal(t, completed.ID, d.EventID)
	require.Equal(t, fields, d.Payload)
	require.Len(t, d.Log, 1)
	require.Equal(t, 200, d.Log[0].StatusCode)
	require.JSONEq(t, `{"status":"success"}`, d.Log[0].Answer)
	require.Equal(t, traceID, d.Log[0].TraceID)

	published := bustest.Read(t, w.cfg.Kafka.Brokers, events.DeliveriesTopic, 2)
	var payload events.Delivery
	require.NoError(t, json.Unmarshal(published[0].Value, &payload))
	require.Equal(t, "delivered", payload.Status)
	require.Equal(t, 1, payload.Attempts)
	require.Len(t, w.requests(), 2, "the duplicate made no delivery")
	for _, personal := range []string{"hush-hush", "Meera", "9876543210", "Asha", "asha@", secret} {
		require.NotContains(t, w.Log.String(), personal)
	}
}

func TestAFailedWebhookIsSentAgain(t *testing.T) {
	t.Parallel()
	w := build(t)
	w.start()
	w.publish(events.AgentRegistered.New(at, agent))
	w.answers(func(rw http.ResponseWriter, _ *http.Request) {
		http.Error(rw, "not now", http.StatusInternalServerError)
	})
	c := call()
	w.publish(events.TranscriptionCompleted.New(at, c))
	d := w.awaitStatus(c.CallID, "retrying")
	require.Equal(t, "status_500", *d.Reason)
	require.NotNil(t, d.NextAttemptAt)
	w.answers(func(http.ResponseWriter, *http.Request) {})
	d = w.awaitStatus(c.CallID, "delivered")
	require.Equal(t, 2, d.Attempts)
	require.Nil(t, d.NextAttemptAt)
	require.Equal(t, map[string]float64{"retrying": 1, "delivered": 1, "dead": 0}, w.counts("convoflow_notify_deliveries_total"))
	require.Contains(t, w.counts("convoflow_notify_backlog_deliveries"), "dead")
	require.Contains(t, w.counts("convoflow_notify_oldest_delivery_seconds"), "retrying")
	got := w.requests()
	require.Equal(t, got[0].body, got[1].body)
	require.Equal(t, got[0].header.Get("webhook-id"), got[1].header.Get("webhook-id"))
	for _, r := range got {
		require.Contains(t, r.header.Get("traceparent"), traceID)
	}
}

// counts returns the values of a metric by its only label.
func (w *world) counts(name string) map[string]float64 {
	w.T.Helper()
	families, err := w.Tel.Metrics.Gather()
	require.NoError(w.T, err)
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

func TestAStopHandsTheDeliveryToTheNextProcess(t *testing.T) {
	t.Parallel()
	w := build(t)
	w.start()
	w.publish(events.AgentRegistered.New(at, agent))
	w.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := call()
	w.publish(events.TranscriptionCompleted.New(at, c))
	w.awaitRequests(1)
	w.Stop()
	require.Equal(t, []string{"pending"}, pgtest.Column[string](t, w.DB, `select status from deliveries where lease_holder is null`),
		"it did not wait for the receiver: that would be a timeout and a retry")
	w.answers(func(http.ResponseWriter, *http.Request) {})
	w.start()
	w.awaitStatus(c.CallID, "delivered")
	got := w.requests()
	require.Len(t, got, 2)
	require.Equal(t, got[0].body, got[1].body)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	w := build(t)
	w.cfg.WebhookURL = ""
	w.start()
	require.Equal(t, 1, strings.Count(w.Log.String(), "no webhook endpoint is enabled"))
	nobody, agent := identity.Caller{}, w.Agent
	unknown := "/webhooks/deliveries/" + event.NewID()
	for _, tt := range []struct {
		path string
		as   identity.Caller
		want int
		code string // of an error
	}{
		{"/webhooks/deliveries", nobody, 401, "not_authenticated"},
		{"/webhooks/deliveries", agent, 403, "admin_only"},
		{"/webhooks/deliveries", w.Admin, 200, ""},
		{"/webhooks/deliveries/?limit=500&skip=3&from=2026-01-01&to=2026-12-31T00:00:00Z&status=dead&event=x&webhook_id=" + event.NewID(), w.Admin, 200, ""},
		{"/webhooks/deliveries?limit=501", w.Admin, 422, "validation_error"},
		{"/webhooks/deliveries?status=lost", w.Admin, 422, "validation_error"},
		{"/webhooks/deliveries?call_id=1", w.Admin, 422, "validation_error"},
		{"/webhooks/deliveries?from=yesterday", w.Admin, 422, "validation_error"},
		{"/webhooks/deliveries?cursor=rubbish", w.Admin, 422, "validation_error"},
		{unknown, nobody, 401, "not_authenticated"},
		{unknown, agent, 403, "admin_only"},
		{unknown, w.Admin, 404, "delivery_not_found"},
		{"/webhooks/deliveries/1", w.Admin, 404, "delivery_not_found"},
		{"/webhooks", w.Admin, 200, ""},
		{"/webhooks", agent, 403, "admin_only"},
		{"/webhooks/x/y", w.Admin, 404, "not_found"},
		{"/health", nobody, 200, ""},
		{"/ready", nobody, 200, ""},
	} {
		a := w.Get(tt.as, tt.path).Is(tt.want)
		if tt.code != "" {
			a.Fails(tt.want, tt.code)
		}
		if strings.HasPrefix(a.Body, "[") {
			require.Empty(t, a.IDs(), tt.path)
		}
	}
	require.Equal(t, []string{"limit", "status"}, w.Get(w.Admin, "/webhooks/deliveries?limit=0&status=lost").Wrong())
}

func TestWrongSettings(t *testing.T) {
	t.Parallel()
	good := []string{"DATABASE_URL=postgres://x/y", "KAFKA_BROKERS=a:1", "SECRET_KEY=Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE", "AUTH_URL=http://auth"}
	for name, tt := range map[string]struct {
		environ []string
		want    string // part of the only problem; empty for none
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

// Webhooks are delivered at each step of replacing SECRET_KEY.
func TestTheSecretIsReplaced(t *testing.T) {
	t.Parallel()
	w := build(t)
	delivers := func(n int) {
		w.start()
		defer w.Stop()
		c := call()
		w.publish(events.AgentUpdated.New(at, agent), events.TranscriptionCompleted.New(at, c))
		require.Len(t, w.awaitRequests(n), n)
	}
	delivers(1)
	former := w.cfg.SecretKey
	w.cfg.SecretKey, w.cfg.PreviousKey = "an0ther-One-0f-thirty-two-lettersX", former
	delivers(2)
	var out strings.Builder
	for range 2 {
		require.NoError(t, notify.Reseal(t.Context(), w.cfg, telemetry.Nop(), &out))
	}
	require.Equal(t, "1 of 1 endpoints were sealed again\n0 of 1 endpoints were sealed again\n", out.String())
	w.cfg.PreviousKey = ""
	delivers(3)
	w.cfg.SecretKey = former
	require.Error(t, notify.Reseal(t.Context(), w.cfg, telemetry.Nop(), &out))
	names := []string{}
	for _, c := range w.cfg.Commands() {
		names = append(names, c.Name)
	}
	require.Contains(t, names, "reseal")
}
