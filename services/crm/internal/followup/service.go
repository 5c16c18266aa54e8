package followup

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/patch"
)

// Store stores follow-ups. One that does not exist is the fault NotFound.
type Store interface {
	// Create saves a follow-up with the events that fn returns of it. A client that does not exist any more is taken out
	// of the follow-up first.
	Create(ctx context.Context, x FollowUp, fn func(*FollowUp) []event.Event) (FollowUp, error)
	Find(ctx context.Context, id string) (FollowUp, error)
	List(ctx context.Context, f Filter) (page.Of[FollowUp], error)
	// Change lets fn change the follow-up under a lock, and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*FollowUp) ([]event.Event, error)) (FollowUp, error)
	Remove(ctx context.Context, id string, fn func(*FollowUp) ([]event.Event, error)) error
}

// Filter chooses a page of follow-ups, by due date.
type Filter struct {
	AgentID string // empty for all agents
	Now     time.Time
	ListRequest
}

// defaultDue is when a follow-up of the phone app is due, from now, when the app leaves the date out.
const defaultDue = 24 * time.Hour

// Service is what agents do with their follow-ups.
type Service struct {
	followups Store
	calls     copies.Of[Call]
	clock     clock.Clock
}

// NewService makes the service.
func NewService(followups Store, calls copies.Of[Call], c clock.Clock) *Service {
	return &Service{followups, calls, c}
}

// CreateRequest is a follow-up as the dashboard sends it.
type CreateRequest struct {
	CallID  string    `json:"call_id"`
	DueDate time.Time `json:"due_date"`
	Task    *string   `json:"task"`
	Notes   *string   `json:"notes"`
}

// Learn copies the call of a new follow-up from the calls service when its event has not arrived yet. It goes before Create,
// outside of its transaction: call_not_found, call_forbidden, or Unavailable while calls does not answer.
func (s *Service) Learn(ctx context.Context, req CreateRequest) error {
	return s.calls.Ensure(ctx, req.CallID)
}

// Create schedules a follow-up for a call.
func (s *Service) Create(ctx context.Context, req CreateRequest) (FollowUp, error) {
	return s.create(ctx, req.CallID, fields{DueDate: req.DueDate, Task: req.Task, Notes: req.Notes})
}

// CreateForCallRequest is a follow-up as the phone app sends it.
type CreateForCallRequest struct {
	CallID  string     `path:"id"`
	Task    *string    `json:"task"`
	DueDate *time.Time `json:"due_date"` // tomorrow at this time when it is left out
}

// LearnForCall is Learn for CreateForCall.
func (s *Service) LearnForCall(ctx context.Context, req CreateForCallRequest) error {
	return s.calls.Ensure(ctx, req.CallID)
}

// CreateForCall is Create in the phone app's form.
func (s *Service) CreateForCall(ctx context.Context, req CreateForCallRequest) (FollowUp, error) {
	due := s.clock.Now().Add(defaultDue)
	if req.DueDate != nil {
		due = *req.DueDate
	}
	return s.create(ctx, req.CallID, fields{DueDate: due, Task: req.Task})
}

func (s *Service) create(ctx context.Context, callID string, f fields) (FollowUp, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return FollowUp{}, err
	}
	call, err := s.calls.Get(ctx, caller, callID)
	if err != nil {
		return FollowUp{}, err
	}
	return s.followups.Create(ctx, schedule(call, f, s.clock.Now()), (*FollowUp).scheduled)
}

// ListRequest is the query of a list. What is empty or nil does not filter.
type ListRequest struct {
	Completed *bool      `query:"completed"`
	CallID    string     `query:"call_id"`
	ClientID  string     `query:"client_id"`
	DueBefore *time.Time `query:"due_before"` // earlier than this
	DueAfter  *time.Time `query:"due_after"`  // at this time or later
	Overdue   *bool      `query:"overdue"`    // pending, and due before now
	page.Request
}

// List is the caller's follow-ups, or everybody's for an admin.
func (s *Service) List(ctx context.Context, req ListRequest) (page.Of[FollowUp], error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return page.Of[FollowUp]{}, err
	}
	return s.followups.List(ctx, Filter{AgentID: caller.Scope(), Now: s.clock.Now(), ListRequest: req})
}

// IDRequest names one follow-up.
type IDRequest struct {
	ID string `path:"id"`
}

// Get is one follow-up.
func (s *Service) Get(ctx context.Context, req IDRequest) (FollowUp, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return FollowUp{}, err
	}
	x, err := s.followups.Find(ctx, req.ID)
	if err != nil {
		return FollowUp{}, err
	}
	return x, x.checkAccess(caller)
}

// ReplaceRequest is every field of one follow-up: what is left out becomes null.
type ReplaceRequest struct {
	ID      string    `path:"id"`
	DueDate time.Time `json:"due_date"`
	Task    *string   `json:"task"`
	Notes   *string   `json:"notes"`
}

// Replace writes every field.
func (s *Service) Replace(ctx context.Context, req ReplaceRequest) (FollowUp, error) {
	return s.change(ctx, req.ID, func(x *FollowUp) ([]event.Event, error) {
		return x.edit(fields{DueDate: req.DueDate, Task: req.Task, Notes: req.Notes}, s.clock.Now()), nil
	})
}

// UpdateRequest is some fields of one follow-up: what is left out stays, null clears.
type UpdateRequest struct {
	ID      string              `path:"id"`
	DueDate *time.Time          `json:"due_date"`
	Task    patch.Field[string] `json:"task"`
	Notes   patch.Field[string] `json:"notes"`
}

// Update writes the fields that were sent.
func (s *Service) Update(ctx context.Context, req UpdateRequest) (FollowUp, error) {
	return s.change(ctx, req.ID, func(x *FollowUp) ([]event.Event, error) {
		f := fields{DueDate: x.DueDate, Task: x.Task, Notes: x.Notes}
		if req.DueDate != nil {
			f.DueDate = *req.DueDate
		}
		req.Task.Apply(&f.Task)
		req.Notes.Apply(&f.Notes)
		return x.edit(f, s.clock.Now()), nil
	})
}

// Complete completes a follow-up. Doing it again changes nothing.
func (s *Service) Complete(ctx context.Context, req IDRequest) (FollowUp, error) {
	return s.change(ctx, req.ID, func(x *FollowUp) ([]event.Event, error) { return x.complete(s.clock.Now()), nil })
}

func (s *Service) change(ctx context.Context, id string, fn func(*FollowUp) ([]event.Event, error)) (FollowUp, error) {
	guarded, err := guard(ctx, fn)
	if err != nil {
		return FollowUp{}, err
	}
	return s.followups.Change(ctx, id, guarded)
}

// Delete removes a follow-up.
func (s *Service) Delete(ctx context.Context, req IDRequest) (struct{}, error) {
	guarded, err := guard(ctx, func(x *FollowUp) ([]event.Event, error) { return x.remove(s.clock.Now()), nil })
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, s.followups.Remove(ctx, req.ID, guarded)
}

// guard lets fn only touch what the caller of ctx may change.
func guard(ctx context.Context, fn func(*FollowUp) ([]event.Event, error)) (func(*FollowUp) ([]event.Event, error), error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	return func(x *FollowUp) ([]event.Event, error) {
		if err := x.checkAccess(caller); err != nil {
			return nil, err
		}
		return fn(x)
	}, nil
}
