package crm_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/service/servicetest"
)

// lead creates a lead of the agent and returns its id.
func (a *app) lead(as identity.Caller, body string) string {
	a.T.Helper()
	return a.Do(as, "POST", "/leads", body).Is(201).Text("id")
}

func TestLeadLife(t *testing.T) {
	t.Parallel()
	a := start(t)
	created := a.Do(a.Agent, "POST", "/leads", `{"name":" Priya Sharma ","phone":"98765 43210","email":"","interest_level":"","source_campaign":"Diwali","extra_data":{"ad_id":120210000000000123,"city":"Pune"},"role":"admin"}`).Is(201)
	id := created.Text("id")
	golden(t, "lead", created.Body, map[string]string{"id": id, "assigned_agent_id": a.Agent.AgentID})
	require.Contains(t, created.Body, `120210000000000123`, "a number keeps all its digits")
	got := a.Do(a.Agent, "GET", "/leads/"+id, "").Is(200)
	require.JSONEq(t, created.Body, got.Body)
	tag := got.Header.Get("ETag")
	a.Do(a.Agent, "GET", "/leads/"+id, "", "If-None-Match", tag).Is(304)
	require.Equal(t, []string{id}, a.Do(a.Agent, "GET", "/leads", "").Is(200).IDs())
	require.Equal(t, []string{id}, a.Do(a.Agent, "GET", "/leads/my?q=iwal", "").Is(200).IDs())

	// A form sends every field back, also those that are empty.
	form := `{"name":"Priya","phone":"+919876543210","email":"","notes":"","next_followup_at":"2026-11-25 10:00","callback_scheduled_at":null,"extra_data":{"city":"Mumbai"},"intent_category":"interested","status":"qualified"}`
	patched := a.Do(a.Agent, "PATCH", "/leads/"+id, form, "If-Match", tag).Is(200)
	require.Equal(t, "2026-11-25T10:00:00Z", patched.Text("next_followup_at"))
	require.Equal(t, map[string]any{"city": "Mumbai"}, patched.Object()["extra_data"], "the whole object is replaced")
	require.Equal(t, "Diwali", patched.Text("source_campaign"), "an omitted field does not change")
	a.Do(a.Agent, "PATCH", "/leads/"+id, `{"notes":"late"}`, "If-Match", tag).Fails(412, "precondition_failed")
	a.Do(a.Agent, "PATCH", "/leads/"+id, `{"notes":"in time"}`, "If-Match", patched.Header.Get("ETag")).Is(200)
	require.Nil(t, a.Do(a.Agent, "PATCH", "/leads/"+id, `{"source_campaign":""}`).Is(200).Object()["source_campaign"], "an empty text clears")

	a.Do(a.Agent, "DELETE", "/leads/"+id, "").Is(204)
	a.Do(a.Agent, "GET", "/leads/"+id, "").Fails(404, "lead_not_found")
	require.Equal(t, []string{"lead.imported 1", "lead.interested 2", "lead.updated 3", "lead.updated 4", "lead.deleted 5"}, a.Published(events.LeadsTopic, 5)[id])
}

// agents publishes agents and waits for their copies.
func (a *app) agents(callers ...identity.Caller) {
	a.T.Helper()
	for i, c := range callers {
		a.Publish(events.AgentRegistered.New(time.Now(), events.Agent{AgentID: c.AgentID, Version: 1, FullName: "Agent", Email: fmt.Sprint(i, "@example.com"), Role: "agent", IsActive: true}))
		a.AwaitRow(`select exists (select from agents where id = $1)`, c.AgentID)
	}
}

func TestUntouchedLeads(t *testing.T) {
	t.Parallel()
	a := start(t)
	waiting := a.lead(a.Agent, `{"name":"Waiting","phone":"9876543210"}`)
	a.lead(a.Agent, `{"name":"Gone","phone":"9876543211","status":"lost"}`)
	called := a.lead(a.Agent, `{"name":"Called","phone":"9876543212"}`)
	at := a.Do(a.Agent, "POST", "/leads/"+called+"/no-answer", "").Is(200).Text("last_contacted_at")

	require.Equal(t, []string{waiting}, a.Get(a.Agent, "/leads?untouched_since="+at).Is(200).IDs())
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	require.Equal(t, []string{called, waiting}, a.Get(a.Admin, "/leads?sort=last_contacted_at&untouched_since="+later).Is(200).IDs(), "the longest untouched first, and those of no contact last")
	require.Empty(t, a.Get(a.Other, "/leads?untouched_since="+later).Is(200).IDs())
	a.Get(a.Agent, "/leads?untouched_since=yesterday").Fails(422, "validation_error")
}

func TestWhoMaySeeALead(t *testing.T) {
	t.Parallel()
	a := start(t)
	a.agents(a.Agent, a.Other, a.Admin)
	mine := a.lead(a.Agent, `{"name":"Mine","phone":"9876543210"}`)
	nobody := a.lead(a.Admin, `{"name":"Nobody's","phone":"9876543211"}`)
	require.Nil(t, a.Do(a.Admin, "PATCH", "/leads/"+nobody, `{"assigned_agent_id":""}`).Is(200).Object()["assigned_agent_id"])

	require.Equal(t, []string{mine}, a.Get(a.Agent, "/leads").Is(200).IDs())
	require.Empty(t, a.Get(a.Other, "/leads").Is(200).IDs())
	require.Empty(t, a.Get(a.Other, "/leads?assigned_agent_id="+a.Agent.AgentID).Is(200).IDs())
	require.ElementsMatch(t, []string{mine, nobody}, a.Get(a.Admin, "/leads").Is(200).IDs())
	require.Equal(t, []string{mine}, a.Get(a.Admin, "/leads?assigned_agent_id="+a.Agent.AgentID).Is(200).IDs())
	require.Empty(t, a.Get(a.Admin, "/leads/my").Is(200).IDs())
	for _, as := range []identity.Caller{a.Agent, a.Other, a.Admin} {
		require.Equal(t, []string{nobody}, a.Get(as, "/leads?unassigned=true").Is(200).IDs(), "every agent may take it")
	}

	missing := event.NewID()
	for _, op := range []struct{ method, path, body string }{
		{"GET", "", ""}, {"GET", "/timeline", ""}, {"PATCH", "", `{"notes":"x"}`}, {"DELETE", "", ""}, {"POST", "/assign", ""}, {"POST", "/no-answer", ""}, {"POST", "/convert", ""},
	} {
		a.Do(identity.Caller{}, op.method, "/leads/"+mine+op.path, op.body).Fails(401, "not_authenticated")
		a.Do(a.Other, op.method, "/leads/"+mine+op.path, op.body).Fails(403, "lead_forbidden")
		a.Do(a.Agent, op.method, "/leads/"+missing+op.path, op.body).Fails(404, "lead_not_found")
		a.Do(a.Agent, op.method, "/leads/7"+op.path, op.body).Fails(404, "lead_not_found")
	}

	// The same number is the same lead of the team. Its id is for those who may see it.
	require.Equal(t, mine, a.Do(a.Agent, "POST", "/leads", `{"name":"Again","phone":"098765 43210"}`).Fails(409, "lead_exists").Text("lead_id"))
	require.NotContains(t, a.Do(a.Other, "POST", "/leads", `{"name":"Again","phone":"9876543210"}`).Fails(409, "lead_exists").Body, mine)
	second := a.lead(a.Agent, `{"name":"Second","phone":"9876543212"}`)
	require.Equal(t, mine, a.Do(a.Agent, "PATCH", "/leads/"+second, `{"phone":"9876543210"}`).Fails(409, "lead_exists").Text("lead_id"))
}

func TestALeadIsAssigned(t *testing.T) {
	t.Parallel()
	a := start(t)
	a.agents(a.Agent, a.Other)
	id := a.lead(a.Agent, `{"name":"Priya","phone":"9876543210"}`)
	inactive := a.Caller(identity.Agent)
	a.Publish(events.AgentDeactivated.New(time.Now(), events.Agent{AgentID: inactive.AgentID, Version: 2, FullName: "Gone", Email: "gone@example.com"}))
	a.AwaitRow(`select exists (select from agents where id = $1)`, inactive.AgentID)

	a.Do(a.Agent, "POST", "/leads/"+id+"/assign?agent_id="+inactive.AgentID, "").Fails(409, "agent_inactive")
	a.Do(a.Agent, "PATCH", "/leads/"+id, `{"assigned_agent_id":"`+inactive.AgentID+`"}`).Fails(409, "agent_inactive")
	a.Do(a.Agent, "POST", "/leads/"+id+"/assign?agent_id="+event.NewID(), "").Fails(404, "agent_not_found")
	require.Equal(t, []string{"agent_id"}, a.Do(a.Agent, "POST", "/leads/"+id+"/assign?agent_id=7", "").Wrong())

	// Apps send an empty body of whatever type.
	given := a.Do(a.Agent, "POST", "/leads/"+id+"/assign?agent_id="+a.Other.AgentID, "", "Content-Type", "application/x-www-form-urlencoded").Is(200)
	require.Equal(t, a.Other.AgentID, given.Text("assigned_agent_id"))
	require.Equal(t, "Priya", given.Text("name"), "the whole lead")
	a.Get(a.Agent, "/leads/"+id).Fails(403, "lead_forbidden")
	a.Do(a.Other, "POST", "/leads/"+id+"/assign?agent_id="+a.Other.AgentID, "", "Content-Type", "text/plain").Is(200) // changes nothing
	require.Equal(t, a.Admin.AgentID, a.Do(a.Admin, "POST", "/leads/"+id+"/assign", "").Is(200).Text("assigned_agent_id"), "by default to oneself")
	require.Equal(t, []string{"lead.imported 1", "lead.updated 2", "lead.updated 3"}, a.Published(events.LeadsTopic, 3)[id])

	// A lead of somebody who was deactivated since can still be edited by a form that sends all fields back.
	a.exec(`update leads set assigned_agent_id = $1 where id = $2`, inactive.AgentID, id)
	a.Do(a.Admin, "PATCH", "/leads/"+id, `{"assigned_agent_id":"`+inactive.AgentID+`","notes":"x"}`).Is(200)
}

func (a *app) exec(sql string, args ...any) {
	a.T.Helper()
	_, err := a.DB.Conn(a.T.Context()).Exec(a.T.Context(), sql, args...)
	require.NoError(a.T, err)
}

func TestNobodyAnswered(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.lead(a.Agent, `{"name":"Priya","phone":"9876543210"}`)
	got := a.Do(a.Agent, "POST", "/leads/"+id+"/no-answer", "", "Idempotency-Key", "k").Is(200).Object()
	require.Equal(t, []any{"contacted", "no_answer", 1.0}, []any{got["status"], got["intent_category"], got["followup_count"]})
	require.NotNil(t, got["last_contacted_at"])
	a.Do(a.Agent, "POST", "/leads/"+id+"/no-answer", "", "Idempotency-Key", "k").Is(200)
	require.InDelta(t, 2, a.Do(a.Agent, "POST", "/leads/"+id+"/no-answer", "").Is(200).Object()["followup_count"], 0)
	require.Equal(t, []string{"lead.imported 1", "lead.no_answer 2", "lead.no_answer 3"}, a.Published(events.LeadsTopic, 3)[id])
	attempts := map[string]bool{}
	for _, m := range bustest.Read(t, a.Config.Kafka.Brokers, events.LeadsTopic, 3)[1:] { // all of one key
		var state events.Lead
		require.NoError(t, json.Unmarshal(m.Value, &state))
		attempts[*state.AttemptID] = true
	}
	require.Len(t, attempts, 2, "each attempt is a call")
	// A form that sets the intent is no attempt.
	other := a.lead(a.Agent, `{"name":"Ravi","phone":"9876543211"}`)
	a.Do(a.Agent, "PATCH", "/leads/"+other, `{"intent_category":"no_answer"}`).Is(200)
	for _, m := range bustest.Read(t, a.Config.Kafka.Brokers, events.LeadsTopic, 5) {
		if string(m.Key) == other {
			require.Contains(t, string(m.Value), `"attempt_id":null`)
		}
	}
}

// TestWhoCallsALeadOfNobodyTakesIt: otherwise calls would not know whose call without a recording it is, and write none.
func TestWhoCallsALeadOfNobodyTakesIt(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.lead(a.Admin, `{"name":"Priya","phone":"9876543210"}`)
	a.Do(a.Admin, "PATCH", "/leads/"+id, `{"assigned_agent_id":null}`).Is(200)
	require.Equal(t, a.Agent.AgentID, a.Do(a.Agent, "POST", "/leads/"+id+"/no-answer", "").Is(200).Text("assigned_agent_id"))
	require.Equal(t, a.Agent.AgentID, a.Do(a.Admin, "POST", "/leads/"+id+"/no-answer", "").Is(200).Text("assigned_agent_id"), "it has an agent")
}

func TestALeadBecomesAClient(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.lead(a.Agent, `{"name":"Priya","phone":"9876543210","email":"priya@example.com","notes":"likes tea"}`)
	got := a.Do(a.Admin, "POST", "/leads/"+id+"/convert", "").Is(200)
	require.Equal(t, "converted", got.Text("status"))
	require.Equal(t, "converted", got.Text("intent_category"))
	client := a.Get(a.Agent, "/clients/"+got.Text("client_id")).Is(200).Object()
	require.Equal(t, []any{a.Agent.AgentID, "Priya", "+919876543210", "priya@example.com", "likes tea"}, []any{client["agent_id"], client["name"], client["phone"], client["email"], client["notes"]}, "of the lead's agent")
	require.JSONEq(t, got.Body, a.Do(a.Agent, "POST", "/leads/"+id+"/convert", "").Is(200).Body, "again changes nothing")
	require.Equal(t, []string{"lead.imported 1", "lead.converted 2"}, a.Published(events.LeadsTopic, 2)[id])

	existing := a.client(a.Agent, `{"name":"Ravi","email":"ravi@example.com"}`)
	twin := a.lead(a.Agent, `{"name":"R","phone":"9876543211","email":"RAVI@example.com"}`)
	require.Equal(t, existing, a.Do(a.Agent, "POST", "/leads/"+twin+"/convert", "").Is(200).Text("client_id"), "the one that there is")
}

func TestManyLeadsAtOnce(t *testing.T) {
	t.Parallel()
	a := start(t)
	a.agents(a.Agent, a.Other)
	first, second := a.lead(a.Agent, `{"name":"A","phone":"9876543210"}`), a.lead(a.Agent, `{"name":"B","phone":"9876543211"}`)
	foreign, missing := a.lead(a.Other, `{"name":"C","phone":"9876543212"}`), event.NewID()
	bulk := func(as identity.Caller, members string) servicetest.Answer {
		return a.Do(as, "POST", "/leads/bulk", `{"lead_ids":["`+strings.Join([]string{first, missing, second, foreign, first}, `","`)+`"],`+members+`}`)
	}
	refused := []any{missing + ": not found", foreign + ": belongs to another agent"}
	for _, change := range []struct {
		members, field string
		want           any
	}{
		{`"action":"change_status","status":"qualified"`, "status", "qualified"},
		{`"action":"change_intent","intent_category":"interested"`, "intent_category", "interested"},
		{`"action":"update_field","field_name":"source_campaign","field_value":" Diwali "`, "source_campaign", "Diwali"},
		{`"action":"update_field","field_name":"source_campaign","field_value":null`, "source_campaign", nil},
		{`"action":"update_field","field_name":"next_followup_at","field_value":"2026-11-26T09:00:00+05:30"`, "next_followup_at", "2026-11-26T03:30:00Z"},
		{`"action":"update_field","field_name":"payment_link_sent","field_value":true`, "payment_link_sent", true},
		{`"action":"update_field","field_name":"status","field_value":"lost"`, "status", "lost"},
	} {
		got := bulk(a.Agent, change.members).Is(200).Object()
		require.Equal(t, map[string]any{"updated": 2.0, "deleted": 0.0, "failed": 2.0, "errors": refused}, got, change.members)
		for _, id := range []string{first, second} {
			require.Equal(t, change.want, a.Get(a.Agent, "/leads/"+id).Is(200).Object()[change.field], change.members)
		}
	}
	for _, wrong := range []struct{ members, field string }{
		{`"action":"change_status"`, "status"}, {`"action":"change_status","status":"nonsense"`, "status"}, {`"action":"change_intent"`, "intent_category"},
		{`"action":"assign"`, "agent_id"}, {`"action":"update_field"`, "field_name"}, {`"action":"update_field","field_name":"phone","field_value":"1"`, "field_name"},
		{`"action":"update_field","field_name":"followup_count","field_value":"many"`, "field_value"}, {`"action":"update_field","field_name":"name","field_value":""`, "field_value"},
		{`"action":"update_field","field_name":"email","field_value":"no"`, "field_value"}, {`"action":"explode"`, "action"},
	} {
		require.Equal(t, []string{wrong.field}, bulk(a.Agent, wrong.members).Wrong(), wrong.members)
	}
	bulk(a.Agent, `"action":"assign","agent_id":"`+event.NewID()+`"`).Fails(404, "agent_not_found")
	require.InDelta(t, 3, bulk(a.Admin, `"action":"assign","agent_id":"`+a.Other.AgentID+`"`).Is(200).Object()["updated"], 0)
	require.InDelta(t, 3, bulk(a.Other, `"action":"delete"`).Is(200).Object()["deleted"], 0)
	require.Equal(t, []string{
		"lead.imported 1", "lead.updated 2", "lead.interested 3", "lead.updated 4", "lead.updated 5", "lead.updated 6", "lead.updated 7", "lead.updated 8", "lead.updated 9", "lead.deleted 10",
	}, a.Published(events.LeadsTopic, 23)[first], "one event for each change of a lead")
}

func TestTeamSettings(t *testing.T) {
	t.Parallel()
	a := start(t)
	defaults := a.Get(a.Agent, "/settings").Is(200)
	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(defaults.Body), &list))
	require.Len(t, list, 5)
	for _, x := range list {
		require.NotNil(t, x["value"])
		require.Nil(t, x["updated_at"])
		// What is shown can be put back.
		raw, err := json.Marshal(x["value"])
		require.NoError(t, err)
		require.Equal(t, x["value"], a.Do(a.Admin, "PUT", "/settings/"+x["key"].(string), `{"value":`+string(raw)+`}`).Is(200).Object()["value"])
	}
	put := func(key, value string) servicetest.Answer {
		return a.Do(a.Admin, "PUT", "/settings/"+key, `{"value":`+value+`}`)
	}
	a.Do(a.Agent, "PUT", "/settings/time_zone", `{"value":"UTC"}`).Fails(403, "admin_only")
	put("nothing", `1`).Fails(404, "setting_not_found")
	for key, values := range map[string][]string{
		"time_zone":     {`null`, `7`, `""`, `"Local"`, `"Nowhere/Here"`, `[]`},
		"working_hours": {`null`, `{}`, `{"monday":{"start":"18:00","end":"09:00"}}`, `{"monday":{"start":"9 am","end":"18:00"}}`, `{"someday":null}`, `[]`},
		"lead_statuses": {`null`, `{}`, `["new"]`, `["Trial Lesson"]`, `["a","a"]`, `[7]`, `[{"name":"x","color":"red"}]`},
		"lead_fields":   {`null`, `["x"]`, `[{"name":"city","type":"poem"}]`, `[{"name":"email","type":"text"}]`, `[{"name":"city","type":"choice"}]`, `[{"name":"city","type":"text","choices":["x"]}]`, `[{"name":"a","type":"text"},{"name":"a","type":"text"}]`},
		"lead_mapping":  {`null`, `[]`, `{"Phone":7}`, `{"Phone":"telephone"}`, `{"":"phone"}`, `{"x":"extra_data."}`},
	} {
		for _, value := range values {
			require.NotEmpty(t, put(key, value).Wrong(), "%s %s", key, value)
		}
	}
	put("working_hours", `{"monday":{"start":"09:00","end":"13:00"}}`).Is(200)
	put("lead_mapping", `{"Mobile No":"phone","Town":"extra_data.city"}`).Is(200)

	// Stages and fields of the team.
	id := a.lead(a.Agent, `{"name":"Priya","phone":"9876543210","extra_data":{"level":"unknown yet"}}`)
	require.Equal(t, []string{"status"}, a.Do(a.Agent, "PATCH", "/leads/"+id, `{"status":"trial"}`).Wrong())
	require.Equal(t, []any{map[string]any{"name": "trial", "label": "Trial lesson"}, map[string]any{"name": "paid_twice", "label": "paid twice"}}, put("lead_statuses", `[{"name":"trial","label":"Trial lesson"},"paid_twice"]`).Is(200).Object()["value"])
	require.Equal(t, "trial", a.Do(a.Agent, "PATCH", "/leads/"+id, `{"status":"trial"}`).Is(200).Text("status"))
	require.Equal(t, []string{id}, a.Get(a.Agent, "/leads?status_filter=trial").Is(200).IDs())
	put("lead_fields", `[{"name":"level","type":"choice","choices":["A1","B2"]},{"name":"age","type":"number"},{"name":"born","type":"date"},{"name":"vip","type":"boolean"},{"name":"city","type":"text"}]`).Is(200)
	require.ElementsMatch(t, []string{"level", "age", "born", "vip", "city"}, a.Do(a.Agent, "PATCH", "/leads/"+id, `{"extra_data":{"level":"C1","age":"7","born":"1.2.2000","vip":"yes","city":7,"other":[1]}}`).Wrong())
	a.Do(a.Agent, "PATCH", "/leads/"+id, `{"extra_data":{"level":"A1","age":7,"born":"2000-02-01","vip":false,"city":"","other":[1]}}`).Is(200)
	bulk := func(value string) servicetest.Answer {
		return a.Do(a.Agent, "POST", "/leads/bulk", `{"lead_ids":["`+id+`"],"action":"update_field","field_name":"level","field_value":`+value+`}`)
	}
	require.Equal(t, []string{"field_value"}, bulk(`"C1"`).Wrong())
	bulk(`"B2"`).Is(200)
	require.Equal(t, "B2", a.Get(a.Agent, "/leads/"+id).Is(200).Object()["extra_data"].(map[string]any)["level"])
	// A stage that the team has removed does not lock the leads in it.
	put("lead_statuses", `[]`).Is(200)
	a.Do(a.Agent, "PATCH", "/leads/"+id, `{"status":"trial","notes":"x"}`).Is(200)
}

func TestWrongLeads(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.lead(a.Agent, `{"name":"Priya","phone":"9876543210"}`)
	for _, tt := range []struct {
		method, path, body string
		want               []string
	}{
		{"POST", "/leads", `{}`, []string{"name", "phone"}},
		{"POST", "/leads", `{"name":" ","phone":"12","email":"no","interest_level":"very","assigned_agent_id":"7","status":"nonsense"}`, []string{"status", "phone", "name", "email", "assigned_agent_id", "interest_level"}},
		{"POST", "/leads", `{"name":" ","phone":"12","status":"nonsense","followup_count":-1}`, []string{"status", "phone", "name", "followup_count"}},
		{"PATCH", "/leads/" + id, `{"name":" ","phone":"9876543210","status":"nonsense","followup_count":-1}`, []string{"status", "name", "followup_count"}},
		{"GET", "/analytics/overview?tz=Mars/Olympus&days=0", "", []string{"days", "tz"}},
		{"POST", "/leads", `{"name":"x","phone":"9876543211","email":"a client's has a dot@localhost"}`, []string{"email"}},
		{"POST", "/leads", `{"name":"x","phone":"9876543211","extra_data":{"x":"` + strings.Repeat("x", 70_000) + `"}}`, []string{"extra_data"}},
		{"PATCH", "/leads/" + id, `{}`, []string{"body"}},
		{"PATCH", "/leads/" + id, `{"name":"","phone":""}`, []string{"phone", "name"}},
		{"PATCH", "/leads/" + id, `{"intent_category":"bored","followup_count":-1,"next_followup_at":"soon","extra_data":[]}`, []string{"extra_data", "followup_count", "intent_category", "next_followup_at"}},
		{"GET", "/leads?sort=phone&order=up&intent_category=x&limit=501", "", []string{"intent_category", "limit", "order", "sort"}},
		{"GET", "/leads?cursor=nonsense", "", []string{"cursor"}},
		{"GET", "/leads/my?sort=name&cursor=W10", "", []string{"cursor"}},
		{"POST", "/leads/bulk", `{"lead_ids":[],"action":"delete"}`, []string{"lead_ids"}},
	} {
		require.ElementsMatch(t, tt.want, a.Do(a.Agent, tt.method, tt.path, tt.body).Wrong(), "%s %s %s", tt.method, tt.path, tt.body)
	}
}

func TestACompletedCallMovesItsLead(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.lead(a.Agent, `{"name":"Priya","phone":"9876543210"}`)
	now := time.Now()
	c := events.Call{CallID: event.NewID(), Version: 1, AgentID: a.Agent.AgentID, LeadID: &id, Status: "pending", RecordedAt: new(now.Add(time.Hour)), CreatedAt: now}
	uploaded := events.CallUploaded.New(now, c)
	c.Version, c.Status, c.IntentCategory, c.Summary = 3, "completed", new("callback_requested"), new("Call her on Friday.")
	c.CallbackTime = new(time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC))
	completed := events.TranscriptionCompleted.New(now, c)
	gone := c
	gone.CallID, gone.LeadID = event.NewID(), new(event.NewID())
	a.Publish(uploaded, completed, completed, events.TranscriptionCompleted.New(now, c), events.TranscriptionCompleted.New(now, gone))
	a.AwaitRow(`select status = 'in_progress' from leads where id = $1`, id)
	a.AwaitRow(`select exists (select from calls where id = $1)`, gone.CallID)
	got := a.Get(a.Agent, "/leads/"+id).Is(200).Object()
	require.Equal(t, []any{"callback_requested", "Call " + c.CallID + ": callback_requested", "2026-11-27T09:00:00Z", "Call her on Friday."},
		[]any{got["intent_category"], got["status_reason"], got["callback_scheduled_at"], got["conversation_summary"]})
	require.Equal(t, []string{id}, a.Get(a.Agent, "/leads?status=in_progress&intent_category=callback_requested").Is(200).IDs())

	// A person decides otherwise; an older call that is transcribed only now does not overwrite that.
	a.Do(a.Agent, "PATCH", "/leads/"+id, `{"status":"lost"}`).Is(200)
	older := c
	older.CallID, older.IntentCategory, older.RecordedAt = event.NewID(), new("interested"), new(now.Add(-time.Hour))
	a.Publish(events.TranscriptionCompleted.New(now, older))
	a.AwaitRow(`select exists (select from calls where id = $1)`, older.CallID)
	require.Equal(t, "lost", a.Get(a.Agent, "/leads/"+id).Is(200).Text("status"))
	require.Equal(t, []string{"lead.imported 1", "lead.callback_requested 2", "lead.updated 3"}, a.Published(events.LeadsTopic, 3)[id])
}

func TestACallWithoutARecordingIsAContactOfItsLead(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.lead(a.Agent, `{"name":"Priya","phone":"9876543210"}`)
	at := time.Now().UTC().Truncate(time.Second)
	c := events.Call{CallID: event.NewID(), Version: 1, AgentID: a.Agent.AgentID, LeadID: &id, Status: "completed", Outcome: new("no_recording"), RecordedAt: &at, CreatedAt: at}
	a.Publish(events.CallUploaded.New(at, c))
	a.AwaitRow(`select last_contacted_at is not null from leads where id = $1`, id)
	require.Equal(t, at.Format(time.RFC3339), a.Get(a.Agent, "/leads/"+id).Is(200).Text("last_contacted_at"))
}

func TestTwoAgentsEditAtOnceAndLoseNothing(t *testing.T) {
	t.Parallel()
	a := start(t)
	for path, fields := range map[string][]string{
		"/leads/" + a.lead(a.Agent, `{"name":"Priya","phone":"9876543210"}`): {
			"email", "source_campaign", "ad_set", "form_id", "form_name", "course_interested_in", "objections", "notes", "conversation_summary",
		},
		"/clients/" + a.client(a.Agent, `{"name":"Priya"}`):                          {"name", "email", "company", "notes"},
		"/followups/" + a.followUp(a.Agent, a.call(a.Agent), "2100-01-01T00:00:00Z"): {"task", "notes"},
	} {
		var g errgroup.Group
		for i, field := range fields {
			as := []identity.Caller{a.Agent, a.Admin}[i%2]
			as.Token = a.Token(as)
			g.Go(func() error {
				res := a.Do(as, "PATCH", path, fmt.Sprintf(`{%q:"%s@example.com"}`, field, field))
				if res.Status != 200 {
					return fmt.Errorf("%s: %s", field, res.Body)
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		got := a.Get(a.Agent, path).Is(200).Object()
		for _, field := range fields {
			require.Equal(t, field+"@example.com", got[field], path)
		}
	}
}

func TestTheAIReadsTheSummary(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.lead(a.Agent, `{"name":"Priya","phone":"9876543210"}`)
	a.Do(a.Agent, "POST", "/leads/"+id+"/classify", "").Fails(409, "lead_without_summary")
	a.Do(a.Agent, "PATCH", "/leads/"+id, `{"conversation_summary":"She will pay tomorrow."}`).Is(200)
	a.Do(a.Agent, "POST", "/leads/"+id+"/classify", "").Fails(503, "service_unavailable") // calls answers 404 here
	a.callsAnswers(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodPost && r.URL.Path == "/internal/intents" && string(body) == `{"text":"She will pay tomorrow."}` && strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ey") {
			_, _ = w.Write([]byte(`{"intent_category":"payment_pending","intent_confidence":0.9,"interest_level":"high","objections":["price"],"callback_time":null}`))
		}
	})
	got := a.Do(a.Agent, "POST", "/leads/"+id+"/classify", "").Is(200).Object()
	require.Equal(t, []any{"payment_pending", "qualified", 0.9, "high", "price", "Summary: payment_pending"},
		[]any{got["intent_category"], got["status"], got["intent_confidence"], got["interest_level"], got["objections"], got["status_reason"]})
	a.Do(a.Other, "POST", "/leads/"+id+"/classify", "").Fails(403, "lead_forbidden")
	require.Equal(t, []string{"lead.imported 1", "lead.updated 2", "lead.payment_pending 3"}, a.Published(events.LeadsTopic, 3)[id])
	a.callsAnswers(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"intent_category":null}`)) })
	require.Equal(t, "qualified", a.Do(a.Agent, "POST", "/leads/"+id+"/classify", "").Is(200).Text("status"), "nothing found changes nothing")
}

func TestTimelineOfALead(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.lead(a.Agent, `{"name":"Priya","phone":"9876543210","extra_data":{"a":1},"next_followup_at":"2100-01-01T00:00:00Z"}`)
	sentBack := `{"phone":"9876543210","extra_data":{"a":1},"next_followup_at":"2100-01-01T05:30:00+05:30","notes":null,`
	a.Do(a.Agent, "PATCH", "/leads/"+id, sentBack+`"name":"Priya S","email":"p@example.com"}`).Is(200)
	a.Do(a.Agent, "PATCH", "/leads/"+id, sentBack+`"name":"Priya S"}`).Is(200)
	now := clock.System{}.Now()
	call := events.Call{CallID: event.NewID(), Version: 2, AgentID: a.Agent.AgentID, LeadID: &id, RecordedAt: new(now.Add(time.Hour)), CreatedAt: now.Add(time.Hour), IntentCategory: new("interested")}
	for range 2 { // a replay changes nothing
		a.complete(call)
	}
	a.AwaitRow(`select status = 'qualified' from leads where id = $1`, id)
	a.followUp(a.Agent, call.CallID, "2100-01-01T00:00:00Z")
	sent := events.Delivery{
		DeliveryID: event.NewID(), EndpointID: event.NewID(), EventID: event.NewID(), EventType: "lead.interested", LeadID: &id,
		Status: "delivered", Attempts: 1, EndedAt: now.Add(2 * time.Hour),
	}
	a.Publish(events.WebhookDelivered.New(now, sent))
	a.AwaitRow(`select exists (select from timeline where kind = 'delivery')`)
	lines := a.timeline(a.Agent, "/leads/"+id)
	require.ElementsMatch(t, []string{
		"delivery lead.interested delivered", "call Pricing completed", "followup pending",
		"change lead.updated status,intent_category,last_contacted_at", "change lead.updated name,email", "change lead.imported",
	}, lines)
	require.Equal(t, "delivery lead.interested delivered", lines[0])
	require.Equal(t, "change lead.imported", lines[len(lines)-1])
	for _, l := range into[[]line](a, a.Get(a.Admin, "/leads/"+id+"/timeline").Is(200)) {
		if slices.Contains(l.Fields, "status") {
			require.Equal(t, "Call "+call.CallID+": interested", *l.Reason)
			require.Nil(t, l.AgentID, "nobody has made the change")
		}
		if slices.Contains(l.Fields, "name") {
			require.Equal(t, a.Agent.AgentID, *l.AgentID)
		}
	}
}
