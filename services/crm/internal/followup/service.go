package followup

import (
	"cmp"
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/patch"
	"github.com/convoflow/convoflow/services/crm/internal/timeline"
)

// Store stores follow-ups. One that does not exist is the fault NotFound.
type Store interface {
	// Create stores a follow-up with the events that fn returns for it. A client that was merged is first replaced by the one that
	// it was merged into, and a client or lead that no longer exists is removed. Create does nothing if there is a follow-up with that id.
	Create(ctx context.Context, x FollowUp, fn func(*FollowUp) []event.Event) (FollowUp, error)
	Find(ctx context.Context, id string) (FollowUp, error)
	List(ctx context.Context, f Filter) (page.Of[FollowUp], error)
	// Change lets fn change the follow-up under a lock, and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*FollowUp) ([]event.Event, error)) (FollowUp, error)
	Remove(ctx context.Context, id string, fn func(*FollowUp) ([]event.Event, error)) error
	// ChangeDue lets fn change each pending follow-up whose due date has passed, by the database's clock, and that is not Reminded.
	// fn must set Reminded.
	ChangeDue(ctx context.Context, fn func(*FollowUp) []event.Event) error
}

// People finds the clients and leads that calls and deliveries name.
type People interface {
	// Find returns the id of a client, or of the one that it was merged into, and that of a lead, and prevents their deletion until
	// the transaction of ctx ends. One that was deleted is nil.
	Find(ctx context.Context, clientID, leadID *string) (client, lead *string, err error)
}

// Filter selects a page of follow-ups, ordered by due date.
type Filter struct {
	AgentID string // empty for all agents
	Now     time.Time
	ListRequest
}

// Service implements the operations on follow-ups.
type Service struct {
	FollowUps Store
	Calls     copies.Of[Call]
	People    People
	Timeline  timeline.Store
	Hours     Hours
	Calendars Calendars
	Clock     clock.Clock
}

// CreateRequest is a follow-up as the dashboard sends it.
type CreateRequest struct {
	CallID  string     `json:"call_id"`
	DueDate *time.Time `json:"due_date"`
	Task    *string    `json:"task"`
	Notes   *string    `json:"notes"`
}

// EnsureCall fetches and stores the call of a new follow-up from the calls service if its event has not arrived yet. It must run
// before Create, outside its transaction. It fails with call_not_found, call_forbidden, or Unavailable if calls does not respond.
func (s *Service) EnsureCall(ctx context.Context, req CreateRequest) error {
	return s.Calls.Ensure(ctx, req.CallID)
}

// Create schedules a follow-up for a call.
func (s *Service) Create(ctx context.Context, req CreateRequest) (FollowUp, error) {
	return s.create(ctx, req.CallID, fields{DueDate: req.DueDate, Task: req.Task, Notes: req.Notes})
}

// CreateForCallRequest is a follow-up as the phone app sends it.
type CreateForCallRequest struct {
	CallID  string     `path:"id"`
	Task    *string    `json:"task"`
	DueDate *time.Time `json:"due_date"`
}

// EnsureCallOfPath is EnsureCall for CreateForCall.
func (s *Service) EnsureCallOfPath(ctx context.Context, req CreateForCallRequest) error {
	return s.Calls.Ensure(ctx, req.CallID)
}

// CreateForCall is Create with the phone app's request.
func (s *Service) CreateForCall(ctx context.Context, req CreateForCallRequest) (FollowUp, error) {
	return s.create(ctx, req.CallID, fields{DueDate: req.DueDate, Task: req.Task})
}

func (s *Service) create(ctx context.Context, callID string, f fields) (FollowUp, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return FollowUp{}, err
	}
	call, err := s.Calls.Get(ctx, caller, callID)
	if err != nil {
		return FollowUp{}, err
	}
	return s.FollowUps.Create(ctx, schedule(call, f, s.Clock.Now()), (*FollowUp).scheduled)
}

// ListRequest is the query of a list. Empty and nil fields do not filter.
type ListRequest struct {
	Completed *bool      `query:"completed"` // false selects what is still to be done: without those that were dismissed
	Status    Status     `query:"status"`
	CallID    string     `query:"call_id"`
	ClientID  string     `query:"client_id"`
	DueBefore *time.Time `query:"due_before"` // earlier than this
	DueAfter  *time.Time `query:"due_after"`  // at this time or later
	Overdue   *bool      `query:"overdue"`    // pending, and due before now
	page.Request
}

// List returns a page of the caller's follow-ups, or of all follow-ups for an admin.
func (s *Service) List(ctx context.Context, req ListRequest) (page.Of[FollowUp], error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return page.Of[FollowUp]{}, err
	}
	return s.FollowUps.List(ctx, Filter{AgentID: caller.Scope(), Now: s.Clock.Now(), ListRequest: req})
}

// IDRequest names one follow-up.
type IDRequest struct {
	ID string `path:"id"`
}

// Get returns a follow-up. It fails with followup_not_found or followup_forbidden.
func (s *Service) Get(ctx context.Context, req IDRequest) (FollowUp, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return FollowUp{}, err
	}
	x, err := s.FollowUps.Find(ctx, req.ID)
	if err != nil {
		return FollowUp{}, err
	}
	return x, x.checkAccess(caller)
}

// ReplaceRequest has all fields of a follow-up. An omitted field becomes null.
type ReplaceRequest struct {
	ID      string     `path:"id"`
	DueDate *time.Time `json:"due_date"`
	Task    *string    `json:"task"`
	Notes   *string    `json:"notes"`
}

// Replace writes every field.
func (s *Service) Replace(ctx context.Context, req ReplaceRequest) (FollowUp, error) {
	return s.change(ctx, req.ID, func(x *FollowUp) ([]event.Event, error) {
		return x.edit(fields{DueDate: req.DueDate, Task: req.Task, Notes: req.Notes}, x.Status, s.Clock.Now()), nil
	})
}

// UpdateRequest has the fields of a follow-up to change. An omitted field does not change; null clears it.
type UpdateRequest struct {
	ID      string                 `path:"id"`
	DueDate patch.Field[time.Time] `json:"due_date"`
	Task    patch.Field[string]    `json:"task"`
	Notes   patch.Field[string]    `json:"notes"`
	Status  Status                 `json:"status"` // empty leaves it as it is
}

// Update writes the fields that were sent. The status pending accepts a suggestion, or reopens a follow-up.
func (s *Service) Update(ctx context.Context, req UpdateRequest) (FollowUp, error) {
	return s.change(ctx, req.ID, func(x *FollowUp) ([]event.Event, error) {
		f := x.fields()
		req.DueDate.Apply(&f.DueDate)
		req.Task.Apply(&f.Task)
		req.Notes.Apply(&f.Notes)
		return x.edit(f, cmp.Or(req.Status, x.Status), s.Clock.Now()), nil
	})
}

// Complete completes a follow-up. A repetition changes nothing.
func (s *Service) Complete(ctx context.Context, req IDRequest) (FollowUp, error) {
	return s.change(ctx, req.ID, func(x *FollowUp) ([]event.Event, error) { return x.complete(s.Clock.Now()), nil })
}

func (s *Service) change(ctx context.Context, id string, fn func(*FollowUp) ([]event.Event, error)) (FollowUp, error) {
	return s.FollowUps.Change(ctx, id, identity.Guard(ctx, (*FollowUp).checkAccess, func(x *FollowUp) ([]event.Event, error) {
		if err := patch.Check(ctx, x.Version); err != nil {
			return nil, err
		}
		return fn(x)
	}))
}

// Delete removes a follow-up.
func (s *Service) Delete(ctx context.Context, req IDRequest) (struct{}, error) {
	return struct{}{}, s.FollowUps.Remove(ctx, req.ID, identity.Guard(ctx, (*FollowUp).checkAccess, func(x *FollowUp) ([]event.Event, error) {
		return x.remove(s.Clock.Now()), nil
	}))
}

// Remind publishes followup.due for each follow-up whose time has come. It is exactly once per due date, on any number of replicas.
func (s *Service) Remind(ctx context.Context) error {
	return s.FollowUps.ChangeDue(ctx, func(x *FollowUp) []event.Event { return x.remind(s.Clock.Now()) })
}
