package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/test/fake/openai"
	"github.com/convoflow/convoflow/test/fake/otlp"
	"github.com/convoflow/convoflow/test/fake/pabbly"
	"github.com/convoflow/convoflow/test/fake/script"
)

const (
	transcriptionCompleted = "transcription.completed"
	followUpScheduled      = "followup.scheduled"
)

// TestMainJob tests the main use case, in both forms: a recording becomes a transcript, insights, a follow-up and two signed
// webhooks, in one trace, without personal data in logs, spans and metrics.
func TestMainJob(t *testing.T) {
	t.Parallel()
	for name, form := range map[string]func(testing.TB, fakes, ...string) *stack{
		"one process":   func(t testing.TB, f fakes, settings ...string) *stack { return newPlatform(t, f, true, settings...) },
		"five services": newServices,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFakes(t)
			s := form(t, f, append(f.settings(), "LOG_LEVEL=debug")...)
			t.Logf("ready after %s", s.start())
			mainJob(t, s)
		})
	}
}

func mainJob(t *testing.T, s *stack) {
	a := s.newAgent()
	who := a.newClient()
	done := a.completed(a.upload(map[string]string{
		"client_id": who.ID, "call_type": "discovery", "call_tag": "connected", "language": "en", "recorded_at": "2031-05-05T10:00:00Z",
	}).ID)
	checkCall(t, done, who)

	planned := schedule(a, done)
	checkWebhooks(t, s, a, who, done, planned)
	checkReading(a, who, done, planned)
	checkTrace(t, s, a)

	refused := a.get("/calls/019abf00-0000-7000-8000-000000000000").refused(http.StatusNotFound, "call_not_found")
	require.Contains(t, string(refused.body), a.requestID)
	checkPrivacy(t, s, a, who)
	require.NotContains(t, s.log(), "DATA RACE")
}

func checkCall(t *testing.T, got call, who client) {
	t.Helper()
	insights := openai.DefaultInsights()
	require.Equal(t, "ok", got.Outcome)
	require.InDelta(t, 1, got.Progress, 0)
	require.Equal(t, who.ID, got.ClientID)
	require.Equal(t, openai.DefaultTranscript().Text(), got.RawTranscript)
	require.Equal(t, insights["summary"], got.Summary)
	require.Equal(t, insights["sentiment"], got.Sentiment)
	require.Equal(t, insights["next_step"], got.NextStep)
	require.Equal(t, insights["action_items"], anys(got.ActionItems))
	require.Equal(t, insights["key_topics"], anys(got.KeyTopics))
	require.NotEmpty(t, got.Models.Transcription)
	require.NotEmpty(t, got.Models.Chat)
	require.Greater(t, got.Duration, 15.0, "seconds, measured by decoding")
	require.Equal(t, 1, got.Attempts)
}

// schedule creates the follow-up, twice, like a phone that did not receive the first response.
func schedule(a *agent, c call) (made followUp) {
	a.t.Helper()
	first := a.post("/followups", followUpBody(c.ID), "Idempotency-Key", "once").must(http.StatusCreated)
	again := a.post("/followups", followUpBody(c.ID), "Idempotency-Key", "once").must(http.StatusCreated)
	require.JSONEq(a.t, string(first.body), string(again.body))
	first.into(&made)
	require.Equal(a.t, followUp{ID: made.ID, CallID: c.ID, ClientID: c.ClientID, Task: "Send the proposal", Status: "pending"}, made)
	return made
}

func checkWebhooks(t *testing.T, s *stack, a *agent, who client, c call, f followUp) {
	t.Helper()
	completed := s.pabbly.WaitFor(t, transcriptionCompleted, 1)[0]
	scheduled := s.pabbly.WaitFor(t, followUpScheduled, 1)[0]
	s.pabbly.RequireValid(t)
	require.Len(t, s.pabbly.Deliveries(), 2)
	t.Logf("the first webhook came %s after the call was completed", completed.Time.Sub(c.CompletedAt))
	poll(t, jobTimeout, "the call says that its webhook was sent", func() bool {
		var got call
		a.get("/calls/" + c.ID).must(http.StatusOK).into(&got)
		return got.PabblySent
	})

	insights := openai.DefaultInsights()
	requireFields(t, completed, map[string]any{
		"event": transcriptionCompleted, "is_test": false, "schema_version": 1.0, "call_id": c.ID, "agent_name": a.name, "agent_email": a.email,
		"client_id": who.ID, "client_name": who.Name, "client_phone": who.Phone, "client_email": who.Email, "lead_id": nil, "lead_name": nil, "lead_phone": nil,
		"call_type": "discovery", "language": "en", "outcome": "ok", "recorded_at": "2031-05-05T10:00:00Z", "duration_seconds": c.Duration,
		"summary": insights["summary"], "sentiment": "positive", "action_items": insights["action_items"], "action_items_count": 2.0,
		"action_items_text": "Send the proposal by Friday\nCall Maria next Tuesday", "key_topics": insights["key_topics"], "key_topics_text": "price\ndiscount\nyearly plan",
		"next_step": insights["next_step"], "intent_category": "interested", "intent_confidence": 0.9, "interest_level": "high",
		"objections_text": "The price is higher than expected", "callback_time": nil, "call_url": s.url + "/calls/" + c.ID,
	})
	requireFields(t, scheduled, map[string]any{
		"event": followUpScheduled, "is_test": false, "schema_version": 1.0, "followup_id": f.ID, "call_id": c.ID, "agent_name": a.name, "agent_email": a.email,
		"client_id": who.ID, "client_name": who.Name, "client_phone": who.Phone, "lead_id": nil,
		"due_date": "2031-05-06T07:08:00Z", "task": "Send the proposal", "notes": "She prefers the mornings", "source": "agent", "followup_url": s.url + "/followups/" + f.ID,
	})
	for _, d := range []pabbly.Delivery{completed, scheduled} {
		require.Contains(t, d.Header.Get("traceparent"), a.traceID, d.Event)
	}
}

// requireFields compares a payload with want; ids and times that cannot be predicted are only required to exist.
func requireFields(t *testing.T, d pabbly.Delivery, want map[string]any) {
	t.Helper()
	var got map[string]any
	require.NoError(t, json.Unmarshal(d.Body, &got))
	for _, key := range []string{"event_id", "timestamp", "agent_id"} {
		require.NotEmpty(t, got[key], key)
		want[key] = got[key]
	}
	require.Empty(t, cmp.Diff(want, got), "the payload of %s", d.Event)
}

func checkReading(a *agent, who client, c call, f followUp) {
	t := a.t
	t.Helper()
	for path, id := range map[string]string{
		"/calls": c.ID, "/calls?status=completed&client_id=" + who.ID: c.ID, "/calls?q=yearly+plan": c.ID, "/clients": who.ID, "/clients/": who.ID,
		"/followups?status=pending": f.ID, "/followups?status=pending&call_id=" + c.ID: f.ID,
	} {
		require.Equal(t, []string{id}, a.ids(path), path)
	}
	require.Empty(t, a.ids("/calls?q=submarine"))
	for _, path := range []string{"/calls/" + c.ID, "/clients/" + who.ID, "/followups/" + f.ID, "/auth/me"} {
		tag := a.get(path).must(http.StatusOK).header.Get("ETag")
		require.NotEmpty(t, tag, path)
		require.Empty(t, a.get(path, "If-None-Match", tag).must(http.StatusNotModified).body, path)
		a.get(path, "If-None-Match", `"another"`).must(http.StatusOK)
	}
	audio := salesCall(t)
	require.True(t, bytes.Equal(audio, a.get("/calls/"+c.ID+"/audio").must(http.StatusOK).body))
	part := a.get("/calls/"+c.ID+"/audio", "Range", "bytes=100-299").must(http.StatusPartialContent)
	require.Equal(t, audio[100:300], part.body)
	require.NotEmpty(t, part.header.Get("Content-Range"))

	var ticked followUp
	a.do(http.MethodPatch, "/followups/"+f.ID+"/complete", nil).must(http.StatusOK).into(&ticked)
	require.Equal(t, "completed", ticked.Status)
	require.Equal(t, []string{f.ID}, a.ids("/followups?completed=true"))
	require.Empty(t, a.ids("/followups?status=pending"))
	require.Equal(t, a.ids("/followups?status=suggested"), a.ids("/followups?completed=false"), "suggestions are to be done too")
}

// ids returns the ids of a list.
func (a *agent) ids(path string) []string {
	a.t.Helper()
	var items []struct{ ID string }
	a.get(path).must(http.StatusOK).into(&items)
	var ids []string
	for _, item := range items {
		ids = append(ids, item.ID)
	}
	return ids
}

// checkTrace looks for every step of the main use case in the one trace that the client began, without a missing parent.
func checkTrace(t *testing.T, s *stack, a *agent) {
	t.Helper()
	want := [][3]string{ // service, kind, part of the name
		{"gateway", "server", "calls.upload"},
		{"calls", "server", "calls.upload"},
		{"calls", "consumer", "calls.transcribe"},
		{"calls", "client", "transcri"},
		{"calls", "client", "chat"},
		{"crm", "consumer", "call.uploaded"},
		{"crm", "server", "follow"},
		{"notify", "consumer", transcriptionCompleted},
		{"notify", "consumer", followUpScheduled},
		{"notify", "consumer", "notify.attempt"},
		{"notify", "client", ""},
	}
	missing := func(spans []otlp.Span) (missing [][3]string) {
		for _, w := range want {
			if !slices.ContainsFunc(spans, func(s otlp.Span) bool {
				return s.TraceID == a.traceID && s.Service == "convoflow-"+w[0] && s.Kind == w[1] && strings.Contains(strings.ToLower(s.Name), w[2])
			}) {
				missing = append(missing, w)
			}
		}
		return missing
	}
	var spans []otlp.Span
	if !assert.Eventually(t, func() bool { spans = s.otlp.Spans(); return len(missing(spans)) == 0 }, script.Timeout, 100*time.Millisecond) {
		for _, span := range spans {
			if span.TraceID == a.traceID {
				t.Logf("%s %s %s", span.Service, span.Kind, span.Name)
			}
		}
		t.Fatalf("no such spans in trace %s: %v", a.traceID, missing(spans))
	}
	poll(t, script.Timeout, "every span has its parent", func() bool { return len(orphans(s.otlp.Spans(), a.traceID)) == 0 })
	for _, service := range []string{"gateway", "auth", "calls", "crm", "notify"} {
		require.True(t, slices.ContainsFunc(strings.Split(s.log(), "\n"), func(line string) bool {
			return strings.Contains(line, `"service":"`+service+`"`) && strings.Contains(line, a.traceID)
		}), "a line of %s with the trace id", service)
	}
}

// orphans returns the spans of a trace whose parent was not received. The parents of the gateway's server spans are in the client.
func orphans(spans []otlp.Span, traceID string) (lost []otlp.Span) {
	known := map[string]bool{}
	for _, span := range spans {
		known[span.SpanID] = true
	}
	for _, span := range spans {
		entry := span.Service == "convoflow-gateway" && span.Kind == "server"
		if span.TraceID == traceID && !entry && !known[span.ParentID] {
			lost = append(lost, span)
		}
	}
	return lost
}

// checkPrivacy searches logs, spans, metrics, profiles and topics for personal data and secrets. The payloads of events have personal
// data, as the tables of the services that read them do; their keys and headers, which tools show and log, have none.
func checkPrivacy(t *testing.T, s *stack, a *agent, who client) {
	t.Helper()
	var spans strings.Builder
	for _, span := range s.otlp.Spans() {
		spans.WriteString(span.Name + "\n")
		for key, value := range span.Attributes {
			spans.WriteString(key + "=" + value + "\n")
		}
		spans.WriteString(span.Events + "\n" + span.Message + "\n")
	}
	outputs := map[string]string{"log": s.log(), "spans": spans.String(), "metrics": s.metrics(), "profiles": s.profiles()}
	payloads := map[string]string{}
	if len(s.units) > 1 { // the same events are on the broker of a platform
		outputs["keys and headers of topics"], payloads["payloads of topics"] = s.topics()
	}
	for where, text := range outputs {
		require.NotEmpty(t, text, where)
	}
	personal := map[string]string{
		"the agent's name": "Raghunathan", "the agent's e-mail": a.email,
		"the client's name": "Featherstonehaugh", "the client's e-mail": who.Email, "the client's phone": strings.TrimPrefix(who.Phone, "+91"),
		"the transcript": "yearly plan", "the summary": "price too high", "an action item": "proposal by Friday", "the follow-up's notes": "prefers the mornings",
	}
	secrets := map[string]string{
		"the password": a.password, "the token": a.token[len(a.token)-40:],
		"the webhook's address": s.pabbly.Path(), "the webhook's secret": hookSecret, "the provider's key": openai.Key,
	}
	requireNone(t, personal, outputs)
	requireNone(t, secrets, outputs)
	requireNone(t, secrets, payloads)
}

// topics returns the keys and headers, and the payloads, of all messages of all topics.
func (s *stack) topics() (envelopes, payloads string) {
	var open, sealed strings.Builder
	for _, m := range s.messages() {
		open.WriteString(m.Topic + " " + string(m.Key))
		for _, h := range m.Headers {
			open.WriteString(" " + h.Key + "=" + string(h.Value))
		}
		open.WriteString("\n")
		sealed.WriteString(m.Topic + " " + string(m.Value) + "\n")
	}
	return open.String(), sealed.String()
}

// requireNone fails for each secret that is in an output.
func requireNone(t *testing.T, secrets, outputs map[string]string) {
	t.Helper()
	for what, secret := range secrets {
		for where, text := range outputs {
			if i := strings.Index(strings.ToLower(text), strings.ToLower(secret)); i >= 0 {
				t.Errorf("%s is in the %s: …%.300s", what, where, text[max(0, i-150):])
			}
		}
	}
}

func anys(list []string) []any {
	var out []any
	for _, item := range list {
		out = append(out, item)
	}
	return out
}
