package followup

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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

// Whatever is done to a follow-up: no event is published about a suggestion before it is accepted, followup.scheduled comes at most once and
// before any followup.updated, and a follow-up is due once per date.
func TestEventsOfAnyHistory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		call := Call{ID: aCall, AgentID: anAgent, Version: 3}
		x := schedule(call, fields{}, at(0))
		known, scheduledOnce := true, true
		if rapid.Bool().Draw(t, "suggested") {
			x = suggestion(call, 0, "Send the quote", at(30), at(0))
			known, scheduledOnce = false, false
		}
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			before := x
			var published []event.Event
			switch rapid.SampledFrom([]string{"edit", "status", "remind", "trigger"}).Draw(t, "step") {
			case "edit":
				f := x.fields()
				f.DueDate = rapid.SampledFrom([]*time.Time{nil, new(at(30)), new(at(31))}).Draw(t, "date")
				published = x.edit(f, x.Status, at(1))
				same := before.DueDate != nil && f.DueDate != nil && before.DueDate.Equal(*f.DueDate)
				require.Equal(t, same && before.Reminded, x.Reminded, "another date is due again")
			case "status":
				to := rapid.SampledFrom([]Status{Pending, Completed, Dismissed}).Draw(t, "to")
				published = x.edit(x.fields(), to, at(1))
				require.Equal(t, to == Completed, x.CompletedAt != nil)
			case "remind":
				if x.Status != Pending || x.Reminded || x.DueDate == nil {
					continue // the store does not select it
				}
				published = x.remind(at(1))
				require.True(t, x.Reminded)
			case "trigger":
				x.trigger(at(1))
				require.Equal(t, before.Triggered, x.Version == before.Version)
			}
			require.LessOrEqual(t, len(published), 1)
			for _, e := range published {
				if e.Type == events.FollowUpScheduled.Name {
					require.False(t, scheduledOnce, "scheduled twice")
					scheduledOnce = true
				}
				if e.Type == events.FollowUpUpdated.Name {
					require.True(t, known, "updated before anything else")
				}
				known = true
			}
			if x.Status == Suggested {
				require.Empty(t, published)
			}
		}
		require.Equal(t, known, len(x.remove(at(2))) == 1, "its deletion is published if it was announced")
	})
}
