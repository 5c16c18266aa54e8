package followup

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/identity"
)

// Store keeps follow-ups. One that does not exist is the fault NotFound.
type Store interface {
	// Create saves a follow-up with the events that fn returns of it. A client that does not exist any more is taken out
	// of the follow-up first.
	Create(ctx context.Context, x FollowUp, fn func(*FollowUp) []contract.Event) (FollowUp, error)
	Find(ctx context.Context, id string) (FollowUp, error)
	List(ctx context.Context, f Filter) (Page, error)
	// Change lets fn change the follow-up while nobody else can, and saves it with the events that fn returns. Without
	// events nothing is saved.
	Change(ctx context.Context, id string, fn func(*FollowUp) ([]contract.Event, error)) (FollowUp, error)
	Remove(ctx context.Context, id string, fn func(*FollowUp) ([]contract.Event, error)) error
}

// Filter chooses a page of follow-ups, the one that is due first first.
type Filter struct {
	AgentID   string // empty for all agents
	Completed *bool
	CallID    string     // empty for all calls
	ClientID  string     // empty for all clients
	DueBefore *time.Time // earlier than this
	DueAfter  *time.Time // at this time or later
	Overdue   *bool      // pending, and due before Now
	Now       time.Time
	Limit     int
	Cursor    string // from Page.Next
	Skip      int
}

// Page is part of a list.
type Page struct {
	Items []FollowUp
	Next  string // cursor of the next page, empty on the last
}

const (
	defaultLimit = 50             // as the HTTP contract says
	defaultDue   = 24 * time.Hour // from now, for the phone app, which may leave the date out
)

// Service is what agents do with their follow-ups.
type Service struct {
	followups Store
	calls     Calls
	asked     CallsService
	clock     clock.Clock
}

// NewService makes the service. It looks for calls among its copies first and asks the calls service for one that it has not
// heard of.
func NewService(followups Store, calls Calls, asked CallsService, c clock.Clock) *Service {
	return &Service{followups, calls, asked, c}
}

// CreateRequest is a follow-up as the dashboard sends it.
type CreateRequest struct {
	CallID  string    `json:"call_id"`
	DueDate time.Time `json:"due_date"`
	Task    *string   `json:"task"`
	Notes   *string   `json:"notes"`
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
	call, err := s.call(ctx, caller, callID)
	if err != nil {
		return FollowUp{}, err
	}
	return s.followups.Create(ctx, schedule(call, f, s.clock.Now()), (*FollowUp).scheduled)
}

// ListRequest is the query of a list.
type ListRequest struct {
	Completed *bool      `query:"completed"`
	CallID    string     `query:"call_id"`
	ClientID  string     `query:"client_id"`
	DueBefore *time.Time `query:"due_before"`
	DueAfter  *time.Time `query:"due_after"`
	Overdue   *bool      `query:"overdue"`
	Limit     int        `query:"limit"`
	Cursor    string     `query:"cursor"`
	Skip      int        `query:"skip"`
}

// List is the caller's follow-ups, or everybody's for an admin.
func (s *Service) List(ctx context.Context, req ListRequest) (Page, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Page{}, err
	}
	f := Filter{
		AgentID: caller.AgentID, Completed: req.Completed, CallID: req.CallID, ClientID: req.ClientID,
		DueBefore: req.DueBefore, DueAfter: req.DueAfter, Overdue: req.Overdue, Now: s.clock.Now(),
		Limit: req.Limit, Cursor: req.Cursor, Skip: req.Skip,
	}
	if caller.IsAdmin() {
		f.AgentID = ""
	}
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	return s.followups.List(ctx, f)
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

// Replace writes every field anew.
func (s *Service) Replace(ctx context.Context, req ReplaceRequest) (FollowUp, error) {
	return s.change(ctx, req.ID, func(x *FollowUp) ([]contract.Event, error) {
		return x.edit(fields{DueDate: req.DueDate, Task: req.Task, Notes: req.Notes}, s.clock.Now()), nil
	})
}

// UpdateRequest is some fields of one follow-up: what is left out stays, null clears.
type UpdateRequest struct {
	ID      string          `path:"id"`
	DueDate *time.Time      `json:"due_date"`
	Task    json.RawMessage `json:"task"`
	Notes   json.RawMessage `json:"notes"`
}

// Update writes the fields that were sent.
func (s *Service) Update(ctx context.Context, req UpdateRequest) (FollowUp, error) {
	return s.change(ctx, req.ID, func(x *FollowUp) ([]contract.Event, error) {
		f := fields{DueDate: x.DueDate, Task: x.Task, Notes: x.Notes}
		if req.DueDate != nil {
			f.DueDate = *req.DueDate
		}
		if err := errors.Join(merge(req.Task, &f.Task), merge(req.Notes, &f.Notes)); err != nil {
			return nil, err
		}
		return x.edit(f, s.clock.Now()), nil
	})
}

// merge writes a text or null that was sent.
func merge(sent json.RawMessage, into **string) error {
	if sent == nil {
		return nil
	}
	*into = nil
	return json.Unmarshal(sent, into)
}

// Complete ticks a follow-up off. Doing it again changes nothing.
func (s *Service) Complete(ctx context.Context, req IDRequest) (FollowUp, error) {
	return s.change(ctx, req.ID, func(x *FollowUp) ([]contract.Event, error) { return x.complete(s.clock.Now()), nil })
}

func (s *Service) change(ctx context.Context, id string, fn func(*FollowUp) ([]contract.Event, error)) (FollowUp, error) {
	guarded, err := guard(ctx, fn)
	if err != nil {
		return FollowUp{}, err
	}
	return s.followups.Change(ctx, id, guarded)
}

// Delete removes a follow-up.
func (s *Service) Delete(ctx context.Context, req IDRequest) (struct{}, error) {
	guarded, err := guard(ctx, func(x *FollowUp) ([]contract.Event, error) { return x.remove(s.clock.Now()), nil })
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, s.followups.Remove(ctx, req.ID, guarded)
}

// guard lets fn only touch what the caller of ctx may change.
func guard(ctx context.Context, fn func(*FollowUp) ([]contract.Event, error)) (func(*FollowUp) ([]contract.Event, error), error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	return func(x *FollowUp) ([]contract.Event, error) {
		if err := x.checkAccess(caller); err != nil {
			return nil, err
		}
		return fn(x)
	}, nil
}
