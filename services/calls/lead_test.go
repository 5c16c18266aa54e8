package calls_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
)

// lead publishes a lead and waits for its copy.
func (a *app) lead(agentID *string, phone string) string {
	a.T.Helper()
	l := events.Lead{LeadID: event.NewID(), Version: 1, AssignedAgentID: agentID, Name: "Priya", Phone: &phone, Status: "new", IntentCategory: "new"}
	a.Publish(events.LeadImported.New(time.Now(), l))
	a.AwaitRow(`select exists (select from leads where id = $1)`, l.LeadID)
	return l.LeadID
}

func TestACallIsLinkedByItsNumber(t *testing.T) {
	t.Parallel()
	a := start(t)
	audio := recording(t, 2)
	mine := a.lead(&a.Agent.AgentID, "+919876543210")
	others := a.lead(&a.Other.AgentID, "+919876543211")
	nobodys := a.lead(nil, "+919876543212")
	c := events.Client{ClientID: event.NewID(), Version: 1, AgentID: a.Agent.AgentID, Name: "Ravi", Phone: new("+919876543213")}
	a.Publish(events.ClientCreated.New(time.Now(), c))
	a.AwaitRow(`select phone is not null from clients where id = $1`, c.ClientID)

	for _, tt := range []struct {
		name         string
		fields       map[string]string
		lead, client any
	}{
		{"a lead of the agent", map[string]string{"phone": "098765 43210"}, mine, nil},
		{"another agent's lead", map[string]string{"phone": "98765 43211"}, nil, nil},
		{"a lead of nobody", map[string]string{"phone": "+91 98765-43212"}, nobodys, nil},
		{"a client of the agent", map[string]string{"phone": "9876543213"}, nil, c.ClientID},
		{"a number of nobody", map[string]string{"phone": "9876543219"}, nil, nil},
		{"a hidden number", map[string]string{"phone": "Private"}, nil, nil},
		{"a lead by its id", map[string]string{"lead_id": mine, "phone": "9876543213"}, mine, nil},
	} {
		got := a.upload(a.Agent, audio, tt.fields).Is(202).Object()
		require.Equal(t, tt.lead, got["lead_id"], tt.name)
		require.Equal(t, tt.client, got["client_id"], tt.name)
	}
	a.upload(a.Agent, audio, map[string]string{"lead_id": others}).Fails(403, "lead_forbidden")
	a.upload(a.Agent, audio, map[string]string{"lead_id": event.NewID()}).Fails(404, "lead_not_found")
	a.upload(a.Admin, audio, map[string]string{"lead_id": others}).Is(202)

	a.Publish(events.LeadDeleted.New(time.Now(), events.Lead{LeadID: mine, Version: 2}))
	a.AwaitRow(`select deleted and phone is null from leads where id = $1`, mine)
	a.upload(a.Agent, audio, map[string]string{"lead_id": mine}).Fails(404, "lead_not_found")
	require.Nil(t, a.upload(a.Agent, audio, map[string]string{"phone": "9876543210"}).Is(202).Object()["lead_id"])
}

func TestAnAttemptIsACallWithoutARecording(t *testing.T) {
	t.Parallel()
	a := start(t)
	leadID, attemptID := a.lead(&a.Agent.AgentID, "+919876543210"), event.NewID()
	l := events.Lead{LeadID: leadID, Version: 2, AssignedAgentID: &a.Agent.AgentID, Name: "Priya", Status: "contacted", IntentCategory: "no_answer"}
	attempt := l
	attempt.CallID = new(event.NewID())
	reported := l
	reported.AttemptID = &attemptID
	first := events.LeadNoAnswer.New(time.Now(), reported)
	again := events.LeadNoAnswer.New(time.Now(), reported) // another event id, as after a replay with an empty inbox
	a.Publish(events.LeadNoAnswer.New(time.Now(), attempt), first, first, again)
	a.AwaitRow(`select exists (select from calls where id = $1)`, attemptID)
	a.AwaitRow(`select exists (select from inbox where event_id = $1)`, again.ID)
	require.Equal(t, []string{attemptID}, a.Get(a.Agent, "/calls").Is(200).IDs(), "once, and none for what a recording says")

	got := a.Get(a.Agent, "/calls/"+attemptID).Is(200).Object()
	for name, want := range map[string]any{"status": "completed", "outcome": "no_recording", "call_tag": "no_answer", "lead_id": leadID, "audio_url": nil, "content_type": nil, "progress": 1.0, "agent_id": a.Agent.AgentID} {
		require.Equal(t, want, got[name], name)
	}
	a.Get(a.Agent, "/calls/"+attemptID+"/audio").Fails(404, "audio_not_found")
	a.Do(a.Agent, "POST", "/calls/"+attemptID+"/retry", "{}").Fails(409, "call_without_recording")
	require.Equal(t, []string{"call.uploaded 1"}, a.Follow(events.CallsTopic).Events(t, attemptID, 1))
	a.Do(a.Agent, "DELETE", "/calls/"+attemptID, "").Is(204)
	a.Get(a.Agent, "/calls/"+attemptID).Fails(404, "call_not_found")
}

func TestAnIntentIsFoundForCRM(t *testing.T) {
	t.Parallel()
	a := start(t)
	got := a.Do(a.Agent, "POST", "/internal/intents", `{"text":"She wants the yearly plan."}`).Is(200)
	require.JSONEq(t, `{"intent_category":"interested","intent_confidence":0.8,"interest_level":"high","objections":["price"],"callback_time":"2026-12-01T09:00:00Z"}`, got.Body)
	a.ai.onChat.Store(refuse(500, "server_error"))
	a.Do(a.Agent, "POST", "/internal/intents", `{"text":"She wants the yearly plan."}`).Fails(503, "service_unavailable")
	require.Empty(t, a.Get(a.Agent, "/calls").Is(200).IDs(), "nothing is stored")
}
