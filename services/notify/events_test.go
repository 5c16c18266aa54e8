package notify_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
)

func TestFollowUpsAndLeadsAreWebhooks(t *testing.T) {
	t.Parallel()
	w := build(t)
	w.start()
	w.publish(events.AgentRegistered.New(at, agent))
	x := events.FollowUp{FollowUpID: event.NewID(), Version: 1, CallID: event.NewID(), AgentID: agent.AgentID, Status: "pending", Source: "agent", CreatedAt: at, UpdatedAt: at}
	for _, t := range []event.Type[events.FollowUp]{events.FollowUpScheduled, events.FollowUpUpdated, events.FollowUpDue, events.FollowUpCompleted, events.FollowUpDeleted} {
		w.publish(t.New(at, x))
		x.Version++
	}
	want := []string{"followup.completed", "followup.due", "followup.scheduled"}
	l := events.Lead{LeadID: event.NewID(), Version: 1, AssignedAgentID: &agent.AgentID, Name: "Priya", Status: "new", IntentCategory: "new", CreatedAt: at, UpdatedAt: at}
	for _, t := range events.LeadChanges() {
		w.publish(t.New(at, l))
		want = append(want, t.Name)
		l.Version++
	}
	w.publish(events.LeadDeleted.New(at, events.Lead{LeadID: l.LeadID, Version: l.Version}))
	w.Await("all are delivered", func() bool { return len(w.list("status=delivered&limit=100")) >= len(want) })
	var got []string
	for _, r := range w.requests() {
		got = append(got, r.header.Get("X-Pabbly-Event"))
	}
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(t, want, got)
}
