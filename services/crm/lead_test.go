package crm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/identity"
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
