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
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/services/crm"
)

// golden compares a response with testdata/<name>.json, in which ids and times are replaced by their names.
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
	created := a.Do(a.Agent, "POST", "/clients", `{"name":" Priya Sharma ","email":"Priya@example.com","phone":"98765 43210","company":"","role":"admin"}`).Is(201)
	id := created.Text("id")
	golden(t, "client", created.Body, map[string]string{"id": id, "agent_id": a.Agent.AgentID})

	got := a.Do(a.Agent, "GET", "/clients/"+id, "").Is(200)
	require.JSONEq(t, created.Body, got.Body)
	tag := got.Header.Get("ETag")
	require.NotEmpty(t, tag)
	a.Do(a.Agent, "GET", "/clients/"+id, "", "If-None-Match", tag).Is(304)

	change := a.Do(a.Agent, "PATCH", "/clients/"+id, `{"company":"Acme","email":null}`, "If-Match", tag).Is(200)
	patched := change.Object()
	require.Equal(t, "Acme", patched["company"])
	require.Nil(t, patched["email"], "null clears")
	require.Equal(t, "+919876543210", patched["phone"], "an omitted field does not change")
	a.Do(a.Agent, "GET", "/clients/"+id, "", "If-None-Match", tag).Is(200)

	for _, method := range []string{"PATCH", "PUT"} {
		a.Do(a.Agent, method, "/clients/"+id, `{"name":"Late"}`, "If-Match", tag).Fails(412, "precondition_failed")
	}
	replaced := a.Do(a.Agent, "PUT", "/clients/"+id, `{"name":"Priya","notes":"likes tea"}`, "If-Match", change.Header.Get("ETag")).Is(200).Object()
	require.Nil(t, replaced["phone"], "left out is null")
	require.Equal(t, "likes tea", replaced["notes"])
	require.JSONEq(t, a.Do(a.Agent, "GET", "/clients/"+id, "").Is(200).Body, mustJSON(t, replaced))

	require.Empty(t, a.Do(a.Agent, "DELETE", "/clients/"+id, "").Is(204).Body)
	a.Do(a.Agent, "GET", "/clients/"+id, "").Fails(404, "client_not_found")
	a.Do(a.Agent, "DELETE", "/clients/"+id, "").Fails(404, "client_not_found")

	require.Equal(t, []string{"client.created 1", "client.updated 2", "client.updated 3", "client.deleted 4"}, a.Published(events.ClientsTopic, 4)[id])
	for _, m := range bustest.Read(t, a.Config.Kafka.Brokers, events.ClientsTopic, 4)[3:] {
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
	first := a.client(a.Agent, `{"name":"Priya","phone":"+919876543210","email":"priya@example.com"}`)
	require.Equal(t, first, a.Do(a.Agent, "POST", "/clients", `{"name":"P","phone":"098765 43210"}`).Fails(409, "client_exists").Text("client_id"))
	second := a.client(a.Agent, `{"name":"Ravi"}`)
	require.Equal(t, first, a.Do(a.Agent, "PATCH", "/clients/"+second, `{"email":"PRIYA@example.com"}`).Fails(409, "client_exists").Text("client_id"))
	require.Equal(t, first, a.Do(a.Agent, "PUT", "/clients/"+second, `{"name":"R","phone":"9876543210"}`).Fails(409, "client_exists").Text("client_id"))
	require.Equal(t, first, a.Do(a.Agent, "POST", "/clients", `{"name":"P","phone":"9876543210"}`, "Idempotency-Key", "k").Fails(409, "client_exists").Text("client_id"), "also inside the transaction of a key")
	a.client(a.Other, `{"name":"Priya","phone":"+919876543210"}`)
	a.Do(a.Agent, "PATCH", "/clients/"+first, `{"email":"priya@EXAMPLE.com"}`).Is(200) // no conflict with itself
}

func TestAFormSendsBlankTexts(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.client(a.Agent, `{"name":"Priya","email":"","phone":" ","company":"","notes":""}`)
	a.Do(a.Agent, "PATCH", "/clients/"+id, `{"email":" p@example.com "}`).Is(200)
	for _, method := range []string{"PATCH", "PUT"} {
		got := a.Do(a.Agent, method, "/clients/"+id, `{"name":"Priya","email":"","phone":"","company":"","notes":""}`).Is(200).Object()
		require.Equal(t, []any{nil, nil, nil, nil}, []any{got["email"], got["phone"], got["company"], got["notes"]})
	}
}

func TestClientLists(t *testing.T) {
	t.Parallel()
	a := start(t)
	require.JSONEq(t, "[]", a.Do(a.Agent, "GET", "/clients", "").Is(200).Body)
	var mine []string
	for i := range 5 {
		mine = append([]string{a.client(a.Agent, fmt.Sprintf(`{"name":"Client %d","company":"100%%"}`, i))}, mine...)
	}
	foreign := a.client(a.Other, `{"name":"Foreign"}`)
	require.Equal(t, mine, a.Do(a.Agent, "GET", "/clients/", "").Is(200).IDs())
	require.Equal(t, append([]string{foreign}, mine...), a.Do(a.Admin, "GET", "/clients", "").Is(200).IDs())
	require.Equal(t, mine[3:], a.Do(a.Agent, "GET", "/clients?skip=3", "").Is(200).IDs())
	require.Equal(t, mine[2:3], a.Do(a.Agent, "GET", "/clients?q=cLIENT+2", "").Is(200).IDs())
	require.Equal(t, mine, a.Do(a.Agent, "GET", "/clients?q=100%25", "").Is(200).IDs())
	require.Empty(t, a.Do(a.Agent, "GET", "/clients?q=C%25t", "").Is(200).IDs(), "a percent sign is only that")

	page := a.Get(a.Agent, "/clients?limit=2&q=client").Is(200)
	require.Equal(t, mine[:2], page.IDs())
	page = a.Get(a.Agent, page.Next()).Is(200)
	require.Equal(t, mine[2:4], page.IDs())
	page = a.Get(a.Agent, page.Next()).Is(200)
	require.Equal(t, mine[4:], page.IDs())
	require.Empty(t, page.Next())
}

func TestFollowUpLife(t *testing.T) {
	t.Parallel()
	a := start(t)
	clientID := a.client(a.Agent, `{"name":"Priya"}`)
	callID := a.call(a.Agent, func(c *events.Call) { c.ClientID = &clientID })
	created := a.Do(a.Agent, "POST", "/followups", `{"call_id":"`+callID+`","due_date":"2036-11-25T09:00:00+05:30","task":"Send the quote"}`).Is(201)
	id := created.Text("id")
	golden(t, "followup", created.Body, map[string]string{"id": id, "agent_id": a.Agent.AgentID, "call_id": callID, "client_id": clientID})
	require.JSONEq(t, created.Body, a.Do(a.Agent, "GET", "/followups/"+id, "").Is(200).Body)

	tag := a.Do(a.Agent, "GET", "/followups/"+id, "").Is(200).Header.Get("ETag")
	change := a.Do(a.Agent, "PATCH", "/followups/"+id, `{"due_date":"2036-11-26 10:00","notes":"by phone"}`, "If-Match", tag).Is(200)
	patched := change.Object()
	for path, method := range map[string]string{"/followups/" + id: "PATCH", "/followups/" + id + "/": "PUT", "/followups/" + id + "/complete": "PATCH"} {
		a.Do(a.Agent, method, path, `{"due_date":null}`, "If-Match", tag).Fails(412, "precondition_failed")
	}
	require.Equal(t, change.Header.Get("ETag"), a.Do(a.Agent, "GET", "/followups/"+id, "").Is(200).Header.Get("ETag"))
	require.Nil(t, a.Do(a.Agent, "PATCH", "/followups/"+id, `{"notes":null}`).Is(200).Object()["notes"], "null clears")
	require.Equal(t, "2036-11-26T10:00:00Z", patched["due_date"], "without a zone it is UTC")
	require.Equal(t, "Send the quote", patched["task"])
	replaced := a.Do(a.Agent, "PUT", "/followups/"+id, `{"due_date":"2036-11-27T10:00:00Z"}`).Is(200).Object()
	require.Nil(t, replaced["task"])
	require.Nil(t, replaced["notes"])
	undated := a.Do(a.Agent, "PUT", "/followups/"+id, `{"task":"Send the quote"}`).Is(200).Object()
	require.Equal(t, []any{nil, "Send the quote"}, []any{undated["due_date"], undated["task"]})

	completed := a.Do(a.Agent, "PATCH", "/followups/"+id+"/complete", "").Is(200)
	require.Equal(t, "completed", completed.Text("status"))
	require.Equal(t, true, completed.Object()["completed"])
	require.NotEmpty(t, completed.Text("completed_at"))
	again := a.Do(a.Agent, "PATCH", "/followups/"+id+"/complete", "").Is(200)
	require.JSONEq(t, completed.Body, again.Body, "completed_at does not change")

	a.Do(a.Agent, "DELETE", "/followups/"+id, "").Is(204)
	a.Do(a.Agent, "GET", "/followups/"+id, "").Fails(404, "followup_not_found")
	require.Equal(t, []string{"followup.scheduled 1", "followup.updated 2", "followup.updated 3", "followup.updated 4", "followup.updated 5", "followup.completed 6", "followup.deleted 7"}, a.Published(events.FollowUpsTopic, 7)[id])
}

func TestFollowUpInThePhoneAppsForm(t *testing.T) {
	t.Parallel()
	a := start(t)
	callID := a.call(a.Agent)
	made := a.Do(a.Agent, "POST", "/followups/"+callID, `{"task":"Send the quote"}`).Is(201)
	require.Equal(t, callID, made.Text("call_id"))
	require.Nil(t, made.Object()["due_date"], "without a date it has none")
	require.Equal(t, "2036-11-25T09:00:00Z", a.Do(a.Agent, "POST", "/followups/"+callID, `{"task":"Call","due_date":"2036-11-25T09:00:00"}`).Is(201).Text("due_date"))
}

func TestFollowUpLists(t *testing.T) {
	t.Parallel()
	a := start(t)
	callID, otherCall := a.call(a.Agent), a.call(a.Agent)
	third := a.followUp(a.Agent, callID, "2100-01-03T00:00:00Z")
	first := a.followUp(a.Agent, callID, "2001-01-01T00:00:00Z")
	second := a.followUp(a.Agent, otherCall, "2100-01-02T00:00:00Z")
	foreign := a.followUp(a.Other, a.call(a.Other), "2000-01-01T00:00:00Z")
	a.Do(a.Agent, "PATCH", "/followups/"+third+"/complete", "").Is(200)
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
		require.Equal(t, want, a.Do(a.Agent, "GET", "/followups?"+query, "").Is(200).IDs(), query)
	}
	require.Equal(t, []string{foreign, first, second, third}, a.Do(a.Admin, "GET", "/followups", "").Is(200).IDs())
}

func TestWhoMayWhat(t *testing.T) {
	t.Parallel()
	a := start(t)
	call := a.call(a.Agent)
	nobody, missing := identity.Caller{}, event.NewID()
	due := `"due_date":"2036-11-25T09:00:00Z"`
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
				own = a.client(a.Agent, `{"name":"Priya"}`)
			case "followup":
				own = a.followUp(a.Agent, call, "2026-11-25T09:00:00Z")
			}
			send := func(as identity.Caller, id string) servicetest.Answer {
				return a.Do(as, tt.method, strings.ReplaceAll(tt.path, "%s", id), strings.ReplaceAll(tt.body, "%s", id))
			}
			send(nobody, own).Fails(401, "not_authenticated")
			send(a.Other, own).Fails(403, tt.noun+"_forbidden")
			send(a.Agent, missing).Fails(404, tt.noun+"_not_found")
			if !strings.Contains(tt.body, "%s") { // in a body it is an invalid field
				send(a.Agent, "7").Fails(404, tt.noun+"_not_found")
			}
			// The other tests cover the owner.
			ok := send(a.Admin, own)
			require.Contains(t, []int{200, 201, 204}, ok.Status, ok.Body)
			if tt.method == "POST" {
				require.Equal(t, a.Agent.AgentID, ok.Text("agent_id"), "it belongs to the agent whose call it is")
			}
		})
	}
	for _, list := range []string{"/clients", "/followups"} {
		a.Do(nobody, "GET", list, "").Fails(401, "not_authenticated")
		a.Do(nobody, "POST", list, "{").Fails(401, "not_authenticated")
	}
}

func TestWrongRequests(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.client(a.Agent, `{"name":"Priya"}`)
	type wrong = map[string]string // the last part of loc, to type
	for _, tt := range []struct {
		method, path, body string
		want               wrong
	}{
		{"POST", "/clients", `{}`, wrong{"name": "missing"}},
		{"POST", "/clients", `{"name":""}`, wrong{"name": "string_too_short"}},
		{"POST", "/clients", `{"name":" ","phone":"12"}`, wrong{"name": "string_too_short", "phone": "phone_number"}},
		{"POST", "/clients", `{"name":"` + strings.Repeat("x", 201) + `","email":"no","phone":7}`, wrong{"name": "string_too_long", "email": "value_error", "phone": "string_type"}},
		{"POST", "/clients", `{"name":" ","phone":"12","email":"no"}`, wrong{"name": "string_too_short", "phone": "phone_number", "email": "value_error"}},
		{"PUT", "/clients/" + id, `{"phone":"12"}`, wrong{"name": "missing", "phone": "phone_number"}},
		{"PATCH", "/clients/" + id, `{"name":" ","phone":"12","email":"no"}`, wrong{"name": "string_too_short", "phone": "phone_number", "email": "value_error"}},
		{"PATCH", "/clients/" + id, `{"email":"no"}`, wrong{"email": "value_error"}},
		{"POST", "/clients", `{"name":"a\u0000b"}`, wrong{"name": "string_unicode"}},
		{"PATCH", "/clients/" + id, `{"name":null}`, wrong{"name": "string_type"}},
		{"PATCH", "/clients/" + id, `{}`, wrong{"body": "too_short"}},
		{"PATCH", "/clients/" + id, `{"unknown":1}`, wrong{"body": "too_short"}},
		{"PATCH", "/followups/" + id, `{"unknown":1}`, wrong{"body": "too_short"}},
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
		for _, field := range a.Do(a.Agent, tt.method, tt.path, tt.body).Fails(422, "validation_error").Object()["errors"].([]any) {
			f := field.(map[string]any)
			loc := f["loc"].([]any)
			got[loc[len(loc)-1].(string)] = f["type"].(string)
			require.NotEmpty(t, f["msg"])
		}
		require.Equal(t, tt.want, got, "%s %s %s", tt.method, tt.path, tt.body)
	}
	a.Do(a.Agent, "POST", "/clients", `{"name"`).Fails(400, "malformed_json")
	a.Do(a.Agent, "POST", "/clients", `name=Priya`, "Content-Type", "application/x-www-form-urlencoded").Fails(415, "unsupported_content_type")
	a.Do(a.Agent, "POST", "/clients", `{"name":"`+strings.Repeat("x", 1<<20)+`"}`).Fails(413, "body_too_large")
	a.Do(a.Agent, "DELETE", "/clients", "").Fails(405, "method_not_allowed")
	a.Do(a.Agent, "GET", "/nothing", "").Fails(404, "not_found")
}

func TestTheSameKeyHappensOnce(t *testing.T) {
	t.Parallel()
	a := start(t)
	callID := a.call(a.Agent)
	for _, tt := range []struct{ path, body, other string }{
		{"/clients", `{"name":"Priya","phone":"9876543210"}`, `{"name":"Ravi"}`},
		{"/followups", `{"call_id":"` + callID + `","due_date":"2036-11-25T09:00:00Z"}`, `{"call_id":"` + callID + `","due_date":"2036-11-26T09:00:00Z"}`},
		{"/followups/" + callID, `{"task":"Send the quote"}`, `{"task":"Call"}`},
	} {
		first := a.Do(a.Agent, "POST", tt.path, tt.body, "Idempotency-Key", "k1").Is(201)
		again := a.Do(a.Agent, "POST", tt.path, tt.body, "Idempotency-Key", "k1").Is(201)
		require.JSONEq(t, first.Body, again.Body)
		a.Do(a.Agent, "POST", tt.path, tt.other, "Idempotency-Key", "k1").Fails(409, "idempotency_key_reused")
		require.NotEqual(t, first.Text("id"), a.Do(a.Agent, "POST", tt.path, tt.other, "Idempotency-Key", "k2").Is(201).Text("id"))
	}
	require.Len(t, a.Do(a.Agent, "GET", "/clients", "").Is(200).IDs(), 2)
	require.Len(t, a.Do(a.Agent, "GET", "/followups", "").Is(200).IDs(), 4)
	total := 0
	for _, published := range a.Published(events.FollowUpsTopic, 4) {
		total += len(published)
	}
	require.Equal(t, 4, total)

	// A refused request stores nothing: its key can be reused for a valid request.
	a.Do(a.Agent, "POST", "/clients", `{"name":"Once more","phone":"9876543210"}`, "Idempotency-Key", "k3").Fails(409, "client_exists")
	a.Do(a.Agent, "POST", "/clients", `{"name":"Once more"}`, "Idempotency-Key", "k3").Is(201)
}

func TestACallWhoseEventHasNotArrived(t *testing.T) {
	t.Parallel()
	a := start(t)
	callID, clientID := event.NewID(), a.client(a.Agent, `{"name":"Priya"}`)
	body := `{"call_id":"` + callID + `","due_date":"2036-11-25T09:00:00Z"}`
	requests := make(chan *http.Request, 100)
	answers := func(status int, body string) {
		a.callsAnswers(func(w http.ResponseWriter, r *http.Request) {
			requests <- r
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
	}

	answers(404, `{"code":"call_not_found","detail":"Call not found"}`)
	a.Do(a.Agent, "POST", "/followups", body).Fails(404, "call_not_found")
	answers(403, `{"code":"call_forbidden","detail":"not yours"}`)
	a.Do(a.Agent, "POST", "/followups", body).Fails(403, "call_forbidden")
	answers(401, `{"code":"token_revoked","detail":"log in"}`)
	a.Do(a.Agent, "POST", "/followups", body).Fails(503, "service_unavailable") // crm has admitted the caller
	for _, broken := range []func(){
		func() { answers(500, `oops, 10.0.0.7 is down`) },
		func() { answers(200, `not JSON`) },
		func() { // hangs
			a.callsAnswers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		},
	} {
		broken()
		refused := a.Do(a.Agent, "POST", "/followups", body).Fails(503, "service_unavailable")
		require.NotEmpty(t, refused.Header.Get("Retry-After"))
		require.NotContains(t, refused.Body, "10.0.0.7")
	}
	require.Empty(t, a.Do(a.Agent, "GET", "/followups", "").Is(200).IDs())

	answers(200, `{"id":"`+callID+`","agent_id":"`+a.Agent.AgentID+`","client_id":"`+clientID+`","lead_id":null,"status":"pending"}`)
	for len(requests) > 0 {
		<-requests
	}
	made := a.Do(a.Agent, "POST", "/followups", body, "X-Request-ID", "request-0815").Is(201)
	require.Equal(t, clientID, made.Text("client_id"))
	question := <-requests
	require.Equal(t, "/calls/"+callID, question.URL.Path)
	require.True(t, strings.HasPrefix(question.Header.Get("Authorization"), "Bearer ey"), "with the caller's token")
	require.Equal(t, "request-0815", question.Header.Get("X-Request-ID"))

	a.Do(a.Agent, "POST", "/followups", body).Is(201)
	require.Empty(t, requests, "once")
	a.Do(a.Other, "POST", "/followups", body).Fails(403, "call_forbidden")

	// The first event of the call replaces the fetched copy.
	a.Publish(events.CallUploaded.New(time.Now(), events.Call{CallID: callID, Version: 1, AgentID: a.Agent.AgentID, Status: "pending"}))
	a.AwaitRow(`select version = 1 and client_id is null from calls where id = $1`, callID)
}

func TestNoTransactionIsOpenDuringARequestToAnotherService(t *testing.T) {
	t.Parallel()
	a := start(t)
	var open []int
	a.callsAnswers(func(w http.ResponseWriter, r *http.Request) {
		for range 100 { // a background task may have a transaction at this moment; that of the request would stay
			open = pgtest.Column[int](a.T, a.DB, `select count(*)::int from pg_stat_activity where usename = current_user and state = 'idle in transaction'`)
			if open[0] == 0 {
				break
			}
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"code":"call_not_found","detail":"Call not found"}`))
	})
	body := `{"call_id":"` + event.NewID() + `","due_date":"2036-11-25T09:00:00Z"}`
	a.Do(a.Agent, "POST", "/followups", body, "Idempotency-Key", "k1").Fails(404, "call_not_found")
	require.Equal(t, []int{0}, open, "a calls service that hangs would hold a connection of the pool")
}

func TestCopiesFollowTheirEvents(t *testing.T) {
	t.Parallel()
	a := start(t)
	call := events.Call{CallID: event.NewID(), AgentID: a.Agent.AgentID, Status: "pending"}
	at := func(version int64, status string) events.Call {
		c := call
		c.Version, c.Status = version, status
		return c
	}
	now := time.Now()
	uploaded, completed := events.CallUploaded.New(now, at(1, "pending")), events.TranscriptionCompleted.New(now, at(3, "completed"))
	// Twice, and in the wrong order.
	a.Publish(uploaded, completed, events.CallTranscribing.New(now, at(2, "transcribing")), uploaded, completed)
	a.AwaitRow(`select status = 'completed' and version = 3 from calls where id = $1`, call.CallID)
	a.followUp(a.Agent, call.CallID, "2026-11-25T09:00:00Z")

	a.Publish(events.CallDeleted.New(now, at(4, "completed")), events.CallUpdated.New(now, at(3, "failed")))
	a.AwaitRow(`select deleted from calls where id = $1`, call.CallID)
	a.Do(a.Agent, "POST", "/followups/"+call.CallID, `{"task":"Call"}`).Fails(404, "call_not_found")
	require.Len(t, a.Do(a.Agent, "GET", "/followups?call_id="+call.CallID, "").Is(200).IDs(), 1, "what was promised stays")

	agent := events.Agent{AgentID: a.Agent.AgentID, Version: 1, Email: "asha@example.com", FullName: "Asha", Role: "agent", IsActive: true}
	inactive := agent
	inactive.Version, inactive.IsActive = 2, false
	a.Publish(events.AgentRegistered.New(now, agent), events.AgentDeactivated.New(now, inactive), events.AgentUpdated.New(now, agent))
	a.AwaitRow(`select not active and version = 2 and name = 'Asha' from agents where id = $1`, agent.AgentID)
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
	require.Equal(t, 200, a.Do(identity.Caller{}, "GET", "/health", "").Status)
	require.Equal(t, 200, a.Do(identity.Caller{}, "GET", "/ready", "").Status)
}
