package crm_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/services/crm"
)

// golden compares an answer with testdata/<name>.json, in which ids and times are replaced by their names.
func golden(t *testing.T, name, body string, values map[string]string) {
	t.Helper()
	var object map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &object))
	for key, want := range values {
		require.Equal(t, want, object[key], key)
		object[key] = "<" + key + ">"
	}
	for key, v := range object {
		text, ok := v.(string)
		if _, named := values[key]; named || !ok || !strings.HasSuffix(key, "_at") {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, text)
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(text, "Z"), text)
		require.WithinDuration(t, time.Now(), at, time.Minute)
		object[key] = "<now>"
	}
	raw, err := os.ReadFile("testdata/" + name + ".json")
	require.NoError(t, err)
	var want map[string]any
	require.NoError(t, json.Unmarshal(raw, &want))
	require.Empty(t, cmp.Diff(want, object))
}

func TestClientLife(t *testing.T) {
	t.Parallel()
	a := start(t)
	created := a.do(a.agent, "POST", "/clients", `{"name":" Priya Sharma ","email":"Priya@example.com","phone":"98765 43210","company":"","role":"admin"}`).is(201)
	id := created.text("id")
	golden(t, "client", created.body, map[string]string{"id": id, "agent_id": a.agent.AgentID})

	got := a.do(a.agent, "GET", "/clients/"+id, "").is(200)
	require.JSONEq(t, created.body, got.body)
	tag := got.header.Get("ETag")
	require.NotEmpty(t, tag)
	a.do(a.agent, "GET", "/clients/"+id, "", "If-None-Match", tag).is(304)

	patched := a.do(a.agent, "PATCH", "/clients/"+id, `{"company":"Acme","email":null}`).is(200).object()
	require.Equal(t, "Acme", patched["company"])
	require.Nil(t, patched["email"], "null clears")
	require.Equal(t, "+919876543210", patched["phone"], "left out stays")
	a.do(a.agent, "GET", "/clients/"+id, "", "If-None-Match", tag).is(200)

	replaced := a.do(a.agent, "PUT", "/clients/"+id, `{"name":"Priya","notes":"likes tea"}`).is(200).object()
	require.Nil(t, replaced["phone"], "left out is null")
	require.Equal(t, "likes tea", replaced["notes"])
	require.JSONEq(t, a.do(a.agent, "GET", "/clients/"+id, "").is(200).body, mustJSON(t, replaced))

	require.Empty(t, a.do(a.agent, "DELETE", "/clients/"+id, "").is(204).body)
	a.do(a.agent, "GET", "/clients/"+id, "").fails(404, "client_not_found")
	a.do(a.agent, "DELETE", "/clients/"+id, "").fails(404, "client_not_found")

	require.Equal(t, []string{"client.created 1", "client.updated 2", "client.updated 3", "client.deleted 4"}, a.published(events.ClientsTopic, 4)[id])
	for _, m := range bustest.Read(t, a.brokers, events.ClientsTopic, 4)[3:] {
		require.NotContains(t, string(m.Value), "Priya", "the deletion carries the erasure")
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	return string(raw)
}

func TestSamePersonTwiceNamesTheFirst(t *testing.T) {
	t.Parallel()
	a := start(t)
	first := a.client(a.agent, `{"name":"Priya","phone":"+919876543210","email":"priya@example.com"}`)
	require.Equal(t, first, a.do(a.agent, "POST", "/clients", `{"name":"P","phone":"098765 43210"}`).fails(409, "client_exists").text("client_id"))
	second := a.client(a.agent, `{"name":"Ravi"}`)
	require.Equal(t, first, a.do(a.agent, "PATCH", "/clients/"+second, `{"email":"PRIYA@example.com"}`).fails(409, "client_exists").text("client_id"))
	require.Equal(t, first, a.do(a.agent, "PUT", "/clients/"+second, `{"name":"R","phone":"9876543210"}`).fails(409, "client_exists").text("client_id"))
	require.Equal(t, first, a.do(a.agent, "POST", "/clients", `{"name":"P","phone":"9876543210"}`, "Idempotency-Key", "k").fails(409, "client_exists").text("client_id"), "also inside the transaction of a key")
	a.client(a.other, `{"name":"Priya","phone":"+919876543210"}`)
	a.do(a.agent, "PATCH", "/clients/"+first, `{"email":"priya@EXAMPLE.com"}`).is(200) // no conflict with itself
}

func TestClientLists(t *testing.T) {
	t.Parallel()
	a := start(t)
	require.JSONEq(t, "[]", a.do(a.agent, "GET", "/clients", "").is(200).body)
	var mine []string
	for i := range 5 {
		mine = append([]string{a.client(a.agent, fmt.Sprintf(`{"name":"Client %d","company":"100%%"}`, i))}, mine...)
	}
	foreign := a.client(a.other, `{"name":"Foreign"}`)
	require.Equal(t, mine, a.do(a.agent, "GET", "/clients/", "").is(200).ids())
	require.Equal(t, append([]string{foreign}, mine...), a.do(a.admin, "GET", "/clients", "").is(200).ids())
	require.Equal(t, mine[3:], a.do(a.agent, "GET", "/clients?skip=3", "").is(200).ids())
	require.Equal(t, mine[2:3], a.do(a.agent, "GET", "/clients?q=cLIENT+2", "").is(200).ids())
	require.Equal(t, mine, a.do(a.agent, "GET", "/clients?q=100%25", "").is(200).ids())
	require.Empty(t, a.do(a.agent, "GET", "/clients?q=C%25t", "").is(200).ids(), "a percent sign is only that")

	page := a.do(a.agent, "GET", "/clients?limit=2&q=client", "").is(200)
	require.Equal(t, mine[:2], page.ids())
	link := page.header.Get("Link")
	require.Contains(t, link, `rel="next"`)
	next := link[1:strings.Index(link, ">")]
	page = a.do(a.agent, "GET", next, "").is(200)
	require.Equal(t, mine[2:4], page.ids())
	link = page.header.Get("Link")
	page = a.do(a.agent, "GET", link[1:strings.Index(link, ">")], "").is(200)
	require.Equal(t, mine[4:], page.ids())
	require.Empty(t, page.header.Get("Link"))
}

func TestFollowUpLife(t *testing.T) {
	t.Parallel()
	a := start(t)
	clientID := a.client(a.agent, `{"name":"Priya"}`)
	callID := a.call(a.agent, func(c *events.Call) { c.ClientID = &clientID })
	created := a.do(a.agent, "POST", "/followups", `{"call_id":"`+callID+`","due_date":"2026-11-25T09:00:00+05:30","task":"Send the quote"}`).is(201)
	id := created.text("id")
	golden(t, "followup", created.body, map[string]string{"id": id, "agent_id": a.agent.AgentID, "call_id": callID, "client_id": clientID})
	require.JSONEq(t, created.body, a.do(a.agent, "GET", "/followups/"+id, "").is(200).body)

	patched := a.do(a.agent, "PATCH", "/followups/"+id, `{"due_date":"2026-11-26 10:00","notes":"by phone"}`).is(200).object()
	require.Nil(t, a.do(a.agent, "PATCH", "/followups/"+id, `{"notes":null}`).is(200).object()["notes"], "null clears")
	require.Equal(t, "2026-11-26T10:00:00Z", patched["due_date"], "without a zone it is UTC")
	require.Equal(t, "Send the quote", patched["task"])
	replaced := a.do(a.agent, "PUT", "/followups/"+id, `{"due_date":"2026-11-27T10:00:00Z"}`).is(200).object()
	require.Nil(t, replaced["task"])
	require.Nil(t, replaced["notes"])

	completed := a.do(a.agent, "PATCH", "/followups/"+id+"/complete", "").is(200)
	require.Equal(t, "completed", completed.text("status"))
	require.Equal(t, true, completed.object()["completed"])
	require.NotEmpty(t, completed.text("completed_at"))
	again := a.do(a.agent, "PATCH", "/followups/"+id+"/complete", "").is(200)
	require.JSONEq(t, completed.body, again.body, "the first time stays")

	a.do(a.agent, "DELETE", "/clients/"+clientID, "").is(204)
	require.Nil(t, a.do(a.agent, "GET", "/followups/"+id, "").is(200).object()["client_id"])

	a.do(a.agent, "DELETE", "/followups/"+id, "").is(204)
	a.do(a.agent, "GET", "/followups/"+id, "").fails(404, "followup_not_found")
	require.Equal(t, []string{"followup.scheduled 1", "followup.updated 2", "followup.updated 3", "followup.updated 4", "followup.completed 5", "followup.deleted 6"}, a.published(events.FollowUpsTopic, 6)[id])
}

func TestFollowUpInThePhoneAppsForm(t *testing.T) {
	t.Parallel()
	a := start(t)
	callID := a.call(a.agent)
	made := a.do(a.agent, "POST", "/followups/"+callID, `{"task":"Send the quote"}`).is(201)
	require.Equal(t, callID, made.text("call_id"))
	due, err := time.Parse(time.RFC3339Nano, made.text("due_date"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(24*time.Hour), due, time.Minute)
	require.Equal(t, "2026-11-25T09:00:00Z", a.do(a.agent, "POST", "/followups/"+callID, `{"task":"Call","due_date":"2026-11-25T09:00:00"}`).is(201).text("due_date"))
}

func TestFollowUpLists(t *testing.T) {
	t.Parallel()
	a := start(t)
	callID, otherCall := a.call(a.agent), a.call(a.agent)
	third := a.followUp(a.agent, callID, "2100-01-03T00:00:00Z")
	first := a.followUp(a.agent, callID, "2001-01-01T00:00:00Z")
	second := a.followUp(a.agent, otherCall, "2100-01-02T00:00:00Z")
	foreign := a.followUp(a.other, a.call(a.other), "2000-01-01T00:00:00Z")
	a.do(a.agent, "PATCH", "/followups/"+third+"/complete", "").is(200)
	for query, want := range map[string][]string{
		"":                                {first, second, third},
		"completed=true":                  {third},
		"completed=false":                 {first, second},
		"call_id=" + callID:               {first, third},
		"client_id=" + callID:             {},
		"overdue=true":                    {first},
		"overdue=false":                   {second, third},
		"due_after=2100-01-02T00:00:00Z":  {second, third},
		"due_before=2100-01-02T00:00:00Z": {first},
		"due_before=2100-01-02":           {first},
		"limit=1&skip=1":                  {second},
	} {
		require.Equal(t, want, a.do(a.agent, "GET", "/followups?"+query, "").is(200).ids(), query)
	}
	require.Equal(t, []string{foreign, first, second, third}, a.do(a.admin, "GET", "/followups", "").is(200).ids())
}

func TestWhoMayWhat(t *testing.T) {
	t.Parallel()
	a := start(t)
	call := a.call(a.agent)
	nobody, missing := identity.Caller{}, event.NewID()
	due := `"due_date":"2026-11-25T09:00:00Z"`
	for _, tt := range []struct{ method, path, noun, body string }{
		{"GET", "/clients/%s", "client", ""},
		{"PUT", "/clients/%s", "client", `{"name":"Priya"}`},
		{"PATCH", "/clients/%s", "client", `{"company":"Acme"}`},
		{"DELETE", "/clients/%s", "client", ""},
		{"POST", "/followups/%s", "call", `{"task":"Call"}`},
		{"POST", "/followups", "call", `{"call_id":"%s",` + due + `}`},
		{"GET", "/followups/%s", "followup", ""},
		{"PUT", "/followups/%s", "followup", `{` + due + `}`},
		{"PATCH", "/followups/%s", "followup", `{"task":"Call"}`},
		{"PATCH", "/followups/%s/complete", "followup", ""},
		{"DELETE", "/followups/%s", "followup", ""},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			own := call
			switch tt.noun {
			case "client":
				own = a.client(a.agent, `{"name":"Priya"}`)
			case "followup":
				own = a.followUp(a.agent, call, "2026-11-25T09:00:00Z")
			}
			send := func(as identity.Caller, id string) answer {
				return a.do(as, tt.method, strings.ReplaceAll(tt.path, "%s", id), strings.ReplaceAll(tt.body, "%s", id))
			}
			send(nobody, own).fails(401, "not_authenticated")
			send(a.other, own).fails(403, tt.noun+"_forbidden")
			send(a.agent, missing).fails(404, tt.noun+"_not_found")
			send(a.agent, "7").fails(422, "validation_error")
			// What the owner may do the other tests show.
			ok := send(a.admin, own)
			require.Contains(t, []int{200, 201, 204}, ok.status, ok.body)
			if tt.method == "POST" {
				require.Equal(t, a.agent.AgentID, ok.text("agent_id"), "it belongs to the agent whose call it is")
			}
		})
	}
	for _, list := range []string{"/clients", "/followups"} {
		a.do(nobody, "GET", list, "").fails(401, "not_authenticated")
		a.do(nobody, "POST", list, "{").fails(401, "not_authenticated")
	}
}

func TestWrongRequests(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.client(a.agent, `{"name":"Priya"}`)
	type wrong = map[string]string // the last part of loc, to type
	for _, tt := range []struct {
		method, path, body string
		want               wrong
	}{
		{"POST", "/clients", `{}`, wrong{"name": "missing"}},
		{"POST", "/clients", `{"name":""}`, wrong{"name": "string_too_short"}},
		{"POST", "/clients", `{"name":" ","phone":"12"}`, wrong{"name": "string_too_short", "phone": "phone_number"}},
		{"POST", "/clients", `{"name":"` + strings.Repeat("x", 201) + `","email":"no","phone":7}`, wrong{"name": "string_too_long", "email": "value_error", "phone": "string_type"}},
		{"POST", "/clients", `{"name":"a\u0000b"}`, wrong{"name": "string_unicode"}},
		{"PATCH", "/clients/" + id, `{"name":null}`, wrong{"name": "string_type"}},
		{"PATCH", "/clients/" + id, `{"phone":"not a phone"}`, wrong{"phone": "phone_number"}},
		{"PUT", "/clients/" + id, `{"company":"Acme"}`, wrong{"name": "missing"}},
		{"GET", "/clients?limit=0", "", wrong{"limit": "greater_than_equal"}},
		{"GET", "/clients?limit=501&skip=-1", "", wrong{"limit": "less_than_equal", "skip": "greater_than_equal"}},
		{"GET", "/clients?cursor=nonsense", "", wrong{"cursor": "value_error"}},
		{"POST", "/followups", `{}`, wrong{"call_id": "missing", "due_date": "missing"}},
		{"POST", "/followups", `{"call_id":"7","due_date":"soon"}`, wrong{"call_id": "uuid_parsing", "due_date": "datetime_parsing"}},
		{"POST", "/followups/" + id, `{}`, wrong{"task": "missing"}},
		{"GET", "/followups?overdue=maybe&due_before=soon", "", wrong{"overdue": "bool_parsing", "due_before": "datetime_parsing"}},
	} {
		got := wrong{}
		for _, field := range a.do(a.agent, tt.method, tt.path, tt.body).fails(422, "validation_error").object()["detail"].([]any) {
			f := field.(map[string]any)
			loc := f["loc"].([]any)
			got[loc[len(loc)-1].(string)] = f["type"].(string)
			require.NotEmpty(t, f["msg"])
		}
		require.Equal(t, tt.want, got, "%s %s %s", tt.method, tt.path, tt.body)
	}
	a.do(a.agent, "POST", "/clients", `{"name"`).fails(400, "malformed_json")
	a.do(a.agent, "POST", "/clients", `name=Priya`, "Content-Type", "application/x-www-form-urlencoded").fails(415, "unsupported_content_type")
	a.do(a.agent, "POST", "/clients", `{"name":"`+strings.Repeat("x", 1<<20)+`"}`).fails(413, "body_too_large")
	a.do(a.agent, "DELETE", "/clients", "").fails(405, "method_not_allowed")
	a.do(a.agent, "GET", "/nothing", "").fails(404, "not_found")
}

func TestTheSameKeyHappensOnce(t *testing.T) {
	t.Parallel()
	a := start(t)
	callID := a.call(a.agent)
	for _, tt := range []struct{ path, body, other string }{
		{"/clients", `{"name":"Priya","phone":"9876543210"}`, `{"name":"Ravi"}`},
		{"/followups", `{"call_id":"` + callID + `","due_date":"2026-11-25T09:00:00Z"}`, `{"call_id":"` + callID + `","due_date":"2026-11-26T09:00:00Z"}`},
		{"/followups/" + callID, `{"task":"Send the quote"}`, `{"task":"Call"}`},
	} {
		first := a.do(a.agent, "POST", tt.path, tt.body, "Idempotency-Key", "k1").is(201)
		again := a.do(a.agent, "POST", tt.path, tt.body, "Idempotency-Key", "k1").is(201)
		require.JSONEq(t, first.body, again.body)
		a.do(a.agent, "POST", tt.path, tt.other, "Idempotency-Key", "k1").fails(409, "idempotency_key_reused")
		require.NotEqual(t, first.text("id"), a.do(a.agent, "POST", tt.path, tt.other, "Idempotency-Key", "k2").is(201).text("id"))
	}
	require.Len(t, a.do(a.agent, "GET", "/clients", "").is(200).ids(), 2)
	require.Len(t, a.do(a.agent, "GET", "/followups", "").is(200).ids(), 4)
	total := 0
	for _, events := range a.published(events.FollowUpsTopic, 4) {
		total += len(events)
	}
	require.Equal(t, 4, total)

	// A refused request keeps nothing: the same key may be used once it is right.
	a.do(a.agent, "POST", "/clients", `{"name":"Once more","phone":"9876543210"}`, "Idempotency-Key", "k3").fails(409, "client_exists")
	a.do(a.agent, "POST", "/clients", `{"name":"Once more"}`, "Idempotency-Key", "k3").is(201)
}

func TestACallThatNoEventHasToldOf(t *testing.T) {
	t.Parallel()
	a := start(t)
	callID, clientID := event.NewID(), a.client(a.agent, `{"name":"Priya"}`)
	body := `{"call_id":"` + callID + `","due_date":"2026-11-25T09:00:00Z"}`
	asked := make(chan *http.Request, 100)
	says := func(status int, body string) {
		a.callsSay(func(w http.ResponseWriter, r *http.Request) {
			asked <- r
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
	}

	says(404, `{"code":"call_not_found","detail":"Call not found"}`)
	a.do(a.agent, "POST", "/followups", body).fails(404, "call_not_found")
	says(403, `{"code":"call_forbidden","detail":"not yours"}`)
	a.do(a.agent, "POST", "/followups", body).fails(403, "call_forbidden")
	says(401, `{"code":"token_revoked","detail":"log in"}`)
	a.do(a.agent, "POST", "/followups", body).fails(401, "token_revoked")
	for _, broken := range []func(){
		func() { says(500, `oops, 10.0.0.7 is down`) },
		func() { says(200, `not JSON`) },
		func() { // hangs
			a.callsSay(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		},
	} {
		broken()
		refused := a.do(a.agent, "POST", "/followups", body).fails(503, "service_unavailable")
		require.NotEmpty(t, refused.header.Get("Retry-After"))
		require.NotContains(t, refused.body, "10.0.0.7")
	}
	require.Empty(t, a.do(a.agent, "GET", "/followups", "").is(200).ids())

	says(200, `{"id":"`+callID+`","agent_id":"`+a.agent.AgentID+`","client_id":"`+clientID+`","lead_id":null,"status":"pending"}`)
	for len(asked) > 0 {
		<-asked
	}
	made := a.do(a.agent, "POST", "/followups", body, "X-Request-ID", "request-0815").is(201)
	require.Equal(t, clientID, made.text("client_id"))
	question := <-asked
	require.Equal(t, "/calls/"+callID, question.URL.Path)
	require.True(t, strings.HasPrefix(question.Header.Get("Authorization"), "Bearer ey"), "with the caller's token")
	require.Equal(t, "request-0815", question.Header.Get("X-Request-ID"))

	a.do(a.agent, "POST", "/followups", body).is(201)
	require.Empty(t, asked, "it is asked once")
	a.do(a.other, "POST", "/followups", body).fails(403, "call_forbidden")

	// The first event of the call wins over the answer.
	a.publish(events.CallUploaded.New(time.Now(), events.Call{CallID: callID, Version: 1, AgentID: a.agent.AgentID, Status: "pending"}))
	a.eventually(`select version = 1 and client_id is null from calls where id = $1`, callID)
}

func TestCopiesFollowTheirEvents(t *testing.T) {
	t.Parallel()
	a := start(t)
	call := events.Call{CallID: event.NewID(), AgentID: a.agent.AgentID, Status: "pending"}
	at := func(version int64, status string) events.Call {
		c := call
		c.Version, c.Status = version, status
		return c
	}
	now := time.Now()
	uploaded, completed := events.CallUploaded.New(now, at(1, "pending")), events.TranscriptionCompleted.New(now, at(3, "completed"))
	// Twice, and in the wrong order.
	a.publish(uploaded, completed, events.CallTranscribing.New(now, at(2, "transcribing")), uploaded, completed)
	a.eventually(`select status = 'completed' and version = 3 from calls where id = $1`, call.CallID)
	a.followUp(a.agent, call.CallID, "2026-11-25T09:00:00Z")

	a.publish(events.CallDeleted.New(now, at(4, "completed")), events.CallUpdated.New(now, at(3, "failed")))
	a.eventually(`select deleted from calls where id = $1`, call.CallID)
	a.do(a.agent, "POST", "/followups/"+call.CallID, `{"task":"Call"}`).fails(404, "call_not_found")
	require.Len(t, a.do(a.agent, "GET", "/followups?call_id="+call.CallID, "").is(200).ids(), 1, "what was promised stays")

	agent := events.Agent{AgentID: a.agent.AgentID, Version: 1, Email: "asha@example.com", FullName: "Asha", Role: "agent", IsActive: true}
	inactive := agent
	inactive.Version, inactive.IsActive = 2, false
	a.publish(events.AgentRegistered.New(now, agent), events.AgentDeactivated.New(now, inactive), events.AgentUpdated.New(now, agent))
	a.eventually(`select not active and version = 2 and name = 'Asha' from agents where id = $1`, agent.AgentID)
}

func TestSettings(t *testing.T) {
	t.Parallel()
	cfg := crm.Defaults()
	cfg.DefaultCountry, cfg.CallsURL = "India", "calls:8080"
	problems := strings.Join(cfg.Check(), "\n")
	for _, name := range []string{"DATABASE_URL", "KAFKA_BROKERS", "AUTH_URL", "CALLS_URL", "DEFAULT_COUNTRY"} {
		require.Contains(t, problems, name)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	a := start(t)
	require.Equal(t, 200, a.do(identity.Caller{}, "GET", "/health", "").status)
	require.Equal(t, 200, a.do(identity.Caller{}, "GET", "/ready", "").status)
}
