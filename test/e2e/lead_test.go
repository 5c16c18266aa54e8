package e2e

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

// lead is what a test reads of a lead.
type lead struct {
	ID       string
	Status   string
	Intent   string `json:"intent_category"`
	Reason   string `json:"status_reason"`
	ClientID string `json:"client_id"`
	Attempts int    `json:"followup_count"`
}

func (a *agent) lead(id string) (got lead) {
	a.t.Helper()
	a.get("/leads/" + id).must(http.StatusOK).into(&got)
	return got
}

// TestALeadFromTheFirstAttemptToTheClient follows a lead through all services: an attempt that becomes a call without a recording, a
// recorded call that is linked by its number and moves the lead, what the automations get, and the client in the end.
func TestALeadFromTheFirstAttemptToTheClient(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newPlatform(t, f, false, f.settings()...)
	s.start()
	s.newAgent() // the admin
	a := s.newAgent()
	phone := newPhone()
	var made lead
	a.post("/leads", map[string]any{"name": "Ravi Kapoor", "phone": phone, "course_interested_in": "Data science"}).must(http.StatusCreated).into(&made)
	require.Equal(t, "new", made.Status)

	a.post("/leads/"+made.ID+"/no-answer", nil).must(http.StatusOK)
	var attempt call
	poll(t, jobTimeout, "the attempt is a call", func() bool {
		ids := a.ids("/calls?lead_id=" + made.ID)
		if len(ids) == 1 {
			attempt = a.call(ids[0])
		}
		return len(ids) == 1
	})
	require.Equal(t, "completed", attempt.Status)
	require.Equal(t, "no_recording", attempt.Outcome)

	var recorded call
	poll(t, jobTimeout, "the number of the lead has reached calls", func() bool {
		recorded = a.completed(a.upload(map[string]string{"phone": "0" + phone}).ID)
		return len(a.ids("/calls?lead_id="+made.ID)) > 1
	})
	poll(t, jobTimeout, "the call has moved the lead", func() bool { return a.lead(made.ID).Status == "qualified" })
	got := a.lead(made.ID)
	require.Equal(t, "interested", got.Intent)
	require.Equal(t, "Call "+recorded.ID+": interested", got.Reason)
	require.Equal(t, 1, got.Attempts)

	interested := s.pabbly.WaitFor(t, "lead.interested", 1)[0]
	var sent map[string]any
	require.NoError(t, json.Unmarshal(interested.Body, &sent))
	require.Empty(t, cmp.Diff(map[string]any{
		"event_id": sent["event_id"], "timestamp": sent["timestamp"], "event": "lead.interested", "is_test": false, "schema_version": 1.0, "lead_id": made.ID, "name": "Ravi Kapoor", "phone": "+91" + phone, "email": nil,
		"source_campaign": nil, "course_interested_in": "Data science", "intent_category": "interested", "callback_time": nil, "payment_link_url": nil,
		"objections_text": "The price is higher than expected", "agent_name": a.name, "agent_email": a.email, "attempt_count": 1.0,
	}, sent))
	s.pabbly.WaitFor(t, "lead.no_answer", 1)

	a.post("/leads/"+made.ID+"/classify", nil).must(http.StatusOK)
	a.post("/leads/"+made.ID+"/convert", nil).must(http.StatusOK)
	got = a.lead(made.ID)
	require.Equal(t, "converted", got.Status)
	a.get("/clients/" + got.ClientID).must(http.StatusOK)
	s.pabbly.WaitFor(t, "lead.converted", 1)
	s.pabbly.RequireValid(t)
}
