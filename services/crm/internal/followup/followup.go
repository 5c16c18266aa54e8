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

// The statuses. A suggestion becomes pending when its agent accepts it; no follow-up becomes a suggestion again.
const (
	Suggested Status = "suggested"
	Pending   Status = "pending"
	Completed Status = "completed"
	Dismissed Status = "dismissed"
)

// Source says who created a follow-up.
type Source string

// The sources.
const (
	ByAgent Source = "agent"
	ByAI    Source = "ai" // from the action items of a call
)

// FollowUp is a dated task from a call. Its JSON is that of the API.
type FollowUp struct {
	ID          string     `json:"id"`
	CallID      string     `json:"call_id"`
	ClientID    *string    `json:"client_id"` // of the call when the follow-up was created; null once the client is deleted
	LeadID      *string    `json:"-"`
	AgentID     string     `json:"agent_id"` // of the call
	DueDate     *time.Time `json:"due_date"` // UTC, to the microsecond; nil for none
	Task        *string    `json:"task"`
	Notes       *string    `json:"notes"`
	Status      Status     `json:"status"`
	Source      Source     `json:"source"`
	Triggered   bool       `json:"pabbly_triggered"` // whether a webhook about it was delivered
	Announced   bool       `json:"-"`                // whether an event about it was published; nobody else knows a suggestion
	Reminded    bool       `json:"-"`                // whether followup.due was published for the due date
	Version     int64      `json:"-"`                // increases by one with each change
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	CompletedAt *time.Time `json:"completed_at"`
}

// fields are the fields of a follow-up that an agent writes.
type fields struct {
	DueDate     *time.Time
	Task, Notes *string
}

// schedule returns a new follow-up of a call.
func schedule(call Call, f fields, now time.Time) FollowUp {
	x := FollowUp{
		ID: event.NewID(), CallID: call.ID, ClientID: call.ClientID, LeadID: call.LeadID, AgentID: call.AgentID,
		Status: Pending, Source: ByAgent, Announced: true, Version: 1, CreatedAt: now, UpdatedAt: now,
	}
	x.write(f)
	return x
}

func (x *FollowUp) scheduled() []event.Event {
	return []event.Event{events.FollowUpScheduled.New(x.CreatedAt, x.state())}
}

// write writes the fields. With another due date, the follow-up becomes due again.
func (x *FollowUp) write(f fields) {
	if f.DueDate != nil {
		f.DueDate = new(f.DueDate.UTC().Truncate(time.Microsecond))
	}
	if f.DueDate == nil || x.DueDate == nil || !f.DueDate.Equal(*x.DueDate) {
		x.Reminded = false
	}
	x.DueDate, x.Task, x.Notes = f.DueDate, text.Trimmed(f.Task), text.Trimmed(f.Notes)
}

// edit writes the fields and the status, and returns the event of what that means.
func (x *FollowUp) edit(f fields, status Status, now time.Time) []event.Event {
	was := x.Status
	x.write(f)
	x.Status = status
	if status != was {
		x.CompletedAt = nil
		if status == Completed {
			x.CompletedAt = &now
		}
	}
	x.touch(now)
	first := !x.Announced
	switch {
	case status == Completed && was != Completed:
		x.Announced = true
		return []event.Event{events.FollowUpCompleted.New(now, x.state())}
	case status == Pending && first:
		x.Announced = true
		return []event.Event{events.FollowUpScheduled.New(now, x.state())}
	case first:
		return nil
	default:
		return []event.Event{events.FollowUpUpdated.New(now, x.state())}
	}
}

// complete changes nothing if the follow-up is completed already.
func (x *FollowUp) complete(now time.Time) []event.Event {
	if x.Status == Completed {
		return nil
	}
	return x.edit(x.fields(), Completed, now)
}

func (x *FollowUp) fields() fields { return fields{DueDate: x.DueDate, Task: x.Task, Notes: x.Notes} }

// remind returns the event of a follow-up that is due.
func (x *FollowUp) remind(now time.Time) []event.Event {
	x.Reminded = true
	x.touch(now)
	return []event.Event{events.FollowUpDue.New(now, x.state())}
}

// trigger records that a webhook about the follow-up was delivered. There is no event: an endpoint that wants all events would
// cause another delivery with each.
func (x *FollowUp) trigger(now time.Time) {
	if !x.Triggered {
		x.Triggered = true
		x.touch(now)
	}
}

func (x *FollowUp) remove(now time.Time) []event.Event {
	x.touch(now)
	if !x.Announced {
		return nil
	}
	return []event.Event{events.FollowUpDeleted.New(now, x.state())}
}

// Erase returns the event of a follow-up that is deleted with its client or lead. It has nothing personal.
func (x *FollowUp) Erase(now time.Time) []event.Event {
	x.Task, x.Notes = nil, nil
	return x.remove(now)
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
