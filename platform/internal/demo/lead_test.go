package demo

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	ours = `{"id":"l1","name":"Meera Nair","phone":"+919820000001","status":"new","intent_category":"new","source_campaign":"Diwali","assigned_agent_id":"me"}`
	hand = `{"id":"l2","name":"Riya Kapoor","phone":"+919820100001","status":"new","intent_category":"new","assigned_agent_id":"me"}`
)

// platform is a platform with these answers by pattern, and a demo whose agent has the id me.
func platform(t *testing.T, answers map[string]http.HandlerFunc) (*demo, *bytes.Buffer) {
	t.Helper()
	mux := http.NewServeMux()
	for pattern, answer := range answers {
		mux.HandleFunc(pattern, answer)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	out := &bytes.Buffer{}
	return &demo{api: newClient(server.URL, ""), out: out, agentID: "me"}, out
}

// text answers with these bodies, one after the other, the last one again.
func text(bodies ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, bodies[0])
		bodies = bodies[min(1, len(bodies)-1):]
	}
}

func TestTheAgentCallsALeadOfItsOwn(t *testing.T) {
	t.Parallel()
	other := `{"id":"l1","name":"Meera Nair","phone":"+919820000001","assigned_agent_id":"other"}`
	nobodys := `{"id":"l1","name":"Meera Nair","phone":"+919820000001","assigned_agent_id":null}`
	for name, tt := range map[string]struct {
		inbox http.HandlerFunc
		lead  string
		says  string
	}{
		"its own":           {text(ours), "l1", "fewest open leads: Someone"},
		"another agent's":   {text(other), "l2", "adds one by hand: Riya Kapoor"},
		"nobody's":          {text(nobodys), "l2", "nobody works on it yet"},
		"no inbox page":     {http.NotFound, "l2", "PABBLY_INBOUND_SECRET"},
		"no right to send":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "l2", "PABBLY_INBOUND_SECRET"},
		"a broken platform": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, out := platform(t, map[string]http.HandlerFunc{
				"POST /inbox/lead": tt.inbox, "POST /leads": text(hand), "GET /agents/{id}": text(`{"full_name":"Someone","email":"s@example.com"}`),
			})
			err := d.receiveLead(t.Context())
			require.Equal(t, tt.lead == "", err != nil, err)
			require.Equal(t, tt.lead, d.lead.ID)
			require.Contains(t, out.String(), tt.says)
		})
	}
}

func TestTheDemoWaitsUntilTheLeadHasMoved(t *testing.T) {
	t.Parallel()
	d, out := platform(t, map[string]http.HandlerFunc{"GET /leads/l1": text(ours,
		`{"id":"l1","name":"Meera Nair","status":"qualified","intent_category":"interested","status_reason":"Call c1: interested","last_contacted_at":"2026-01-02T03:04:05Z"}`)})
	d.lead, d.intent = lead{ID: "l1", Status: "new", IntentCategory: "new"}, "interested"
	require.NoError(t, d.awaitMove(t.Context()))
	require.Equal(t, "  Meera Nair\n    status  new → qualified\n    intent  new → interested\n    reason  Call c1: interested\n", out.String())
}

func TestALeadThatDoesNotMoveFailsTheDemo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	// A contact without the call's intent is not enough.
	contacted := `{"id":"l1","status":"new","intent_category":"new","last_contacted_at":"2026-01-02T03:04:05Z"}`
	d, _ := platform(t, map[string]http.HandlerFunc{"GET /leads/l1": func(w http.ResponseWriter, r *http.Request) {
		text(contacted)(w, r)
		cancel()
	}})
	d.lead, d.intent = lead{ID: "l1"}, "interested"
	require.ErrorIs(t, d.awaitMove(ctx), context.Canceled)
}

func TestTheDashboardShowsWhatHasChanged(t *testing.T) {
	t.Parallel()
	const before = `{"total_leads":2,"leads_by_status":{"qualified":1},"leads_by_intent":{"interested":1},"agent_stats":[{"calls_made":3}]}`
	const withoutCall = `{"total_leads":3,"leads_by_status":{"qualified":2},"leads_by_intent":{"interested":2},"agent_stats":[{"calls_made":3}]}`
	const after = `{"total_leads":3,"leads_by_status":{"qualified":2},"leads_by_intent":{"interested":2},"agent_stats":[{"calls_made":4}]}`
	d, out := platform(t, map[string]http.HandlerFunc{"GET /analytics/overview": text(before, withoutCall, after)})
	require.NoError(t, d.openDashboard(t.Context()))
	d.lead = lead{Status: "qualified", IntentCategory: "interested"}
	require.NoError(t, d.reopenDashboard(t.Context()))
	require.Equal(t, `  2 leads, 3 calls
  leads                2 → 3
  status qualified     1 → 2
  intent interested    1 → 2
  calls                3 → 4
`, out.String())
}
