package followup

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

const (
	aCall        = "019abf00-0000-7000-8000-000000000001"
	aClient      = "019abf00-0000-7000-8000-000000000002"
	aLead        = "019abf00-0000-7000-8000-000000000003"
	anAgent      = "019abf00-0000-7000-8000-00000000000a"
	anotherAgent = "019abf00-0000-7000-8000-00000000000b"
)

func at(minute int) time.Time { return time.Date(2026, 11, 24, 9, minute, 0, 0, time.UTC) }

func scheduled() FollowUp {
	call := Call{ID: aCall, AgentID: anAgent, ClientID: new(aClient), LeadID: new(aLead)}
	return schedule(call, fields{DueDate: new(at(30)), Task: new(" Send the quote "), Notes: new(" ")}, at(0))
}

func stateOf(t *testing.T, published []event.Event, wantType string) events.FollowUp {
	t.Helper()
	require.Len(t, published, 1)
	require.Equal(t, wantType, published[0].Type)
	require.Equal(t, events.FollowUpsTopic, published[0].Topic)
	var state events.FollowUp
	require.NoError(t, json.Unmarshal(published[0].Data, &state))
	require.Equal(t, state.FollowUpID, published[0].Key)
	return state
}

func TestScheduledTakesOverTheCall(t *testing.T) {
	t.Parallel()
	x := scheduled()
	require.Empty(t, cmp.Diff(events.FollowUp{
		FollowUpID: x.ID, Version: 1, CallID: aCall, ClientID: new(aClient), LeadID: new(aLead), AgentID: anAgent, DueDate: new(at(30)),
		Task: new("Send the quote"), Status: "pending", Source: "agent", CreatedAt: at(0), UpdatedAt: at(0),
	}, stateOf(t, x.scheduled(), "followup.scheduled")))
}

func TestDueDateHasThePrecisionOfTheDatabase(t *testing.T) {
	t.Parallel()
	ist := time.FixedZone("IST", 5*3600+1800)
	x := schedule(Call{ID: aCall}, fields{DueDate: new(time.Date(2026, 11, 24, 15, 0, 0, 123456789, ist))}, at(0))
	require.Equal(t, time.Date(2026, 11, 24, 9, 30, 0, 123456000, time.UTC), *x.DueDate)
}

func TestCompletingTwiceKeepsTheFirstTime(t *testing.T) {
	t.Parallel()
	x := scheduled()
	state := stateOf(t, x.complete(at(1)), "followup.completed")
	require.Equal(t, "completed", state.Status)
	require.Equal(t, int64(2), state.Version)
	require.Equal(t, new(at(1)), state.CompletedAt)

	before := x
	require.Empty(t, x.complete(at(2)))
	require.Empty(t, cmp.Diff(before, x))
}

func TestEditAndRemove(t *testing.T) {
	t.Parallel()
	x := scheduled()
	state := stateOf(t, x.edit(fields{DueDate: new(at(40)), Notes: new("by phone")}, Pending, at(1)), "followup.updated")
	require.Nil(t, state.Task)
	require.Equal(t, "by phone", *state.Notes)
	require.Equal(t, int64(2), state.Version)
	require.Equal(t, int64(3), stateOf(t, x.remove(at(2)), "followup.deleted").Version)
}

func TestAccess(t *testing.T) {
	t.Parallel()
	x := scheduled()
	require.NoError(t, x.checkAccess(identity.Caller{AgentID: anAgent, Role: identity.Agent}))
	require.NoError(t, x.checkAccess(identity.Caller{AgentID: anotherAgent, Role: identity.Admin}))
	require.Equal(t, "followup_forbidden", fault.Of(x.checkAccess(identity.Caller{AgentID: anotherAgent, Role: identity.Agent})).Code)
}
