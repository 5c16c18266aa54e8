package calls_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/services/calls"
)

func TestAdminsSeeWhatWasUsed(t *testing.T) {
	t.Parallel()
	a := start(t, func(c *calls.Config) { c.Proxy, c.MonthlyBudgetUSD = true, 10 })
	got := a.ended(a.call(recording(t, 6)))
	require.InDelta(t, 0.0045*6/60, got["cost_usd"], 1e-6, "the chat answer names no usage")
	a.Get(a.Agent, "/usage").Fails(http.StatusForbidden, "admin_only")
	usage := a.Get(a.Admin, "/usage?days=2").Is(http.StatusOK).Object()
	total := usage["total"].(map[string]any)
	require.InDelta(t, 2, total["requests"], 0)
	require.InDelta(t, 0.1, total["minutes"], 0.01)
	require.InDelta(t, got["cost_usd"], total["cost_usd"], 1e-9)
	require.InDelta(t, got["cost_usd"], usage["month_cost_usd"], 1e-9)
	require.InDelta(t, 10, usage["monthly_budget_usd"], 0)
	require.Equal(t, a.Agent.AgentID, usage["by_agent"].([]any)[0].(map[string]any)["agent_id"])
	require.Len(t, usage["by_day"], 1)
	require.Equal(t, "gpt-transcribe", usage["by_model"].([]any)[0].(map[string]any)["model"])
	a.Get(a.Admin, "/usage?days=0").Fails(http.StatusUnprocessableEntity, "validation_error")

	a.Do(a.Agent, http.MethodDelete, "/calls/"+got["id"].(string), "").Is(http.StatusNoContent)
	require.Equal(t, usage, a.Get(a.Admin, "/usage?days=2").Object(), "it outlives the call")
}

// Calls that hung could once not be stopped.
func TestACallCanBeCancelledWhileTheProviderWorks(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.working(&a.ai.onTranscribe)
	path := "/calls/" + id + "/cancel"
	a.Do(a.Other, http.MethodPost, path, "").Fails(http.StatusForbidden, "call_forbidden")
	got := a.Do(a.Agent, http.MethodPost, path, "").Is(http.StatusOK)
	require.Equal(t, "failed", got.Text("status"))
	require.Equal(t, "cancelled", got.Object()["error"].(map[string]any)["code"])
	require.Equal(t, got.Body, a.Do(a.Agent, http.MethodPost, path, "").Is(http.StatusOK).Body)
	a.Await("the worker stopped and removed its files", func() bool { return len(a.temporary()) == 0 })
	a.Do(a.Agent, http.MethodPost, "/calls/"+id+"/retry", "").Is(http.StatusAccepted)
	require.Equal(t, "completed", a.ended(id)["status"])
}
