// Package followup owns the dated tasks that result from calls. It refuses a task without a call: the call's agent decides who
// may see it.
package followup

import (
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/text"
)

// Status is the status of a follow-up.
type Status string

// The statuses.
const (
	Pending   Status = "pending"
	Completed Status = "completed"
)

// Source says who created a follow-up.
type Source string

// ByAgent is the source of a follow-up that an agent created.
const ByAgent Source = "agent"

// FollowUp is a dated task from a call. Its JSON is that of the API.
type FollowUp struct {
	ID          string     `json:"id"`
	CallID      string     `json:"call_id"`
	ClientID    *string    `json:"client_id"` // of the call when the follow-up was created; null once the client is deleted
	LeadID      *string    `json:"-"`
	AgentID     string     `json:"agent_id"` // of the call
	DueDate     time.Time  `json:"due_date"` // UTC, to the microsecond
	Task        *string    `json:"task"`
	Notes       *string    `json:"notes"`
	Status      Status     `json:"status"`
	Source      Source     `json:"source"`
	Version     int64      `json:"-"` // increases by one with each change
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	CompletedAt *time.Time `json:"completed_at"`
}

// fields are the fields of a follow-up that an agent writes.
type fields struct {
	DueDate     time.Time
	Task, Notes *string
}

// schedule returns a new follow-up of a call.
func schedule(call Call, f fields, now time.Time) FollowUp {
	x := FollowUp{
		ID: event.NewID(), CallID: call.ID, ClientID: call.ClientID, LeadID: call.LeadID, AgentID: call.AgentID,
		Status: Pending, Source: ByAgent, Version: 1, CreatedAt: now, UpdatedAt: now,
	}
	x.write(f)
	return x
}

func (x *FollowUp) scheduled() []event.Event {
	return []event.Event{events.FollowUpScheduled.New(x.CreatedAt, x.state())}
}

func (x *FollowUp) write(f fields) {
	x.DueDate, x.Task, x.Notes = f.DueDate.UTC().Truncate(time.Microsecond), text.Trimmed(f.Task), text.Trimmed(f.Notes)
}

func (x *FollowUp) edit(f fields, now time.Time) []event.Event {
	x.write(f)
	x.touch(now)
	return []event.Event{events.FollowUpUpdated.New(now, x.state())}
}

// complete changes nothing if the follow-up is completed already.
func (x *FollowUp) complete(now time.Time) []event.Event {
	if x.Status == Completed {
		return nil
	}
	x.Status, x.CompletedAt = Completed, &now
	x.touch(now)
	return []event.Event{events.FollowUpCompleted.New(now, x.state())}
}

func (x *FollowUp) remove(now time.Time) []event.Event {
	x.touch(now)
	return []event.Event{events.FollowUpDeleted.New(now, x.state())}
}

func (x *FollowUp) touch(now time.Time) {
	x.Version++
	x.UpdatedAt = now
}

func (x *FollowUp) state() events.FollowUp {
	return events.FollowUp{
		FollowUpID: x.ID, Version: x.Version, CallID: x.CallID, ClientID: x.ClientID, LeadID: x.LeadID, AgentID: x.AgentID,
		DueDate: x.DueDate, Task: x.Task, Notes: x.Notes, Status: string(x.Status), Source: string(x.Source),
		CreatedAt: x.CreatedAt, UpdatedAt: x.UpdatedAt, CompletedAt: x.CompletedAt,
	}
}

func (x *FollowUp) checkAccess(caller identity.Caller) error {
	if !caller.MaySee(x.AgentID) {
		return fault.New(fault.Forbidden, "followup_forbidden", "This follow-up belongs to another agent")
	}
	return nil
}

// NotFound is the fault of a follow-up that does not exist.
func NotFound() error { return fault.New(fault.NotFound, "followup_not_found", "Follow-up not found") }
