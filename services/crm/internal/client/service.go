package client

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/patch"
	"github.com/convoflow/convoflow/services/crm/internal/erasure"
	"github.com/convoflow/convoflow/services/crm/internal/timeline"
)

// Store stores clients. A client that does not exist is the fault NotFound; a phone or e-mail that another client of the same
// agent has is the fault Exists.
type Store interface {
	Create(ctx context.Context, c Client, events ...event.Event) error
	Find(ctx context.Context, id string) (Client, error)
	List(ctx context.Context, f Filter) (page.Of[Client], error)
	// Change lets fn change the client under a lock, and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*Client) ([]event.Event, error)) (Client, error)
	// Remove deletes the client with the events that fn returns, and with its follow-ups and timeline.
	Remove(ctx context.Context, id string, fn func(*Client) ([]event.Event, error)) error
}

// Filter selects a page of clients, newest first.
type Filter struct {
	AgentID string // empty for all agents
	Q       string // part of the name, company, e-mail or phone
	page.Request
}

// Links stores what refers to clients: follow-ups, copies of calls, the timeline.
type Links interface {
	// Change locks both clients, makes everything that refers to one of them refer to the other, and records that what arrives later
	// does so too. It fails with NotFound if one of them does not exist.
	Change(ctx context.Context, from, to string, now time.Time) error
}

// Tx runs several changes as one.
type Tx interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
}

// Service implements the operations on clients.
type Service struct {
	Clients        Store
	Links          Links
	Timeline       timeline.Store
	Erasures       erasure.Store
	Tx             Tx
	NormalizePhone NormalizePhone
	Clock          clock.Clock
}

// Create creates a client of the caller.
func (s *Service) Create(ctx context.Context, req Fields) (Client, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Client{}, err
	}
	fields, err := req.cleaned(s.NormalizePhone)
	if err != nil {
		return Client{}, err
	}
	c, created := create(caller.AgentID, fields, s.Clock.Now())
	return c, s.Clients.Create(ctx, c, created)
}

// Refuse fails with the fields of a new client that Create refuses.
func (s *Service) Refuse(_ context.Context, req Fields) error {
	_, err := req.cleaned(s.NormalizePhone)
	return err
}

// ListRequest is the query of a list.
type ListRequest struct {
	Q string `query:"q"`
	page.Request
}

// List returns a page of the caller's clients, or of all clients for an admin.
func (s *Service) List(ctx context.Context, req ListRequest) (page.Of[Client], error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return page.Of[Client]{}, err
	}
	return s.Clients.List(ctx, Filter{AgentID: caller.Scope(), Q: req.Q, Request: req.Request})
}

// IDRequest names one client.
type IDRequest struct {
	ID string `path:"id"`
}

// Get returns a client. It fails with client_not_found or client_forbidden.
func (s *Service) Get(ctx context.Context, req IDRequest) (Client, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Client{}, err
	}
	c, err := s.Clients.Find(ctx, req.ID)
	if err != nil {
		return Client{}, err
	}
	return c, c.checkAccess(caller)
}

// ReplaceRequest has all fields of a client. An omitted field becomes null.
type ReplaceRequest struct {
	ID string `path:"id"`
	Fields
}

// Replace writes every field.
func (s *Service) Replace(ctx context.Context, req ReplaceRequest) (Client, error) {
	return s.change(ctx, req.ID, func(f *Fields) { *f = req.Fields })
}

// RefuseReplace fails with the fields that Replace refuses.
func (s *Service) RefuseReplace(ctx context.Context, req ReplaceRequest) error {
	return s.Refuse(ctx, req.Fields)
}

// UpdateRequest has the fields of a client to change. An omitted field does not change; null clears it.
type UpdateRequest struct {
	ID      string              `path:"id"`
	Name    *string             `json:"name"`
	Email   patch.Field[string] `json:"email"`
	Phone   patch.Field[string] `json:"phone"`
	Company patch.Field[string] `json:"company"`
	Notes   patch.Field[string] `json:"notes"`
}

// Update writes the fields that were sent.
func (s *Service) Update(ctx context.Context, req UpdateRequest) (Client, error) {
	return s.change(ctx, req.ID, req.apply)
}

func (r UpdateRequest) apply(f *Fields) {
	if r.Name != nil {
		f.Name = *r.Name
	}
	r.Email.Apply(&f.Email)
	r.Phone.Apply(&f.Phone)
	r.Company.Apply(&f.Company)
	r.Notes.Apply(&f.Notes)
}

// RefuseUpdate fails with the fields that Update refuses.
func (s *Service) RefuseUpdate(ctx context.Context, req UpdateRequest) error {
	fields := Fields{Name: "any"}
	req.apply(&fields)
	return s.Refuse(ctx, fields)
}

func (s *Service) change(ctx context.Context, id string, edit func(*Fields)) (Client, error) {
	return s.Clients.Change(ctx, id, identity.Guard(ctx, (*Client).checkAccess, func(c *Client) ([]event.Event, error) {
		if err := patch.Check(ctx, c.Version); err != nil {
			return nil, err
		}
		fields := c.Fields
		edit(&fields)
		fields, err := fields.cleaned(s.NormalizePhone)
		if err != nil {
			return nil, err
		}
		return []event.Event{c.edit(fields, s.Clock.Now())}, nil
	}))
}

// Delete deletes a client with its follow-ups, and asks every service to erase what it has of it.
func (s *Service) Delete(ctx context.Context, req IDRequest) (x erasure.Erasure, err error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return x, err
	}
	err = s.Tx.InTx(ctx, func(ctx context.Context) error {
		now := s.Clock.Now()
		err := s.Clients.Remove(ctx, req.ID, identity.Guard(ctx, (*Client).checkAccess, func(c *Client) ([]event.Event, error) {
			deleted := c.erase(nil, now)
			x = erasure.New(events.KindClient, c.ID, c.Version, caller.AgentID, now)
			return []event.Event{deleted}, nil
		}))
		if err != nil {
			return err
		}
		return erasure.Request(ctx, s.Erasures, x)
	})
	return x, err
}

// MergeRequest merges a client into another one of the same agent.
type MergeRequest struct {
	ID   string `path:"id"` // the client that is deleted
	Into string `json:"into"`
}

// Merge deletes a client of a person who exists twice. Its fields fill the empty ones of the other client, and its follow-ups, calls
// and timeline belong to the other from then on, also what arrives later. It returns the other client.
func (s *Service) Merge(ctx context.Context, req MergeRequest) (merged Client, err error) {
	if req.ID == req.Into {
		return Client{}, fault.Fields(fault.BodyField("into", "value_error", "Input should be another client"))
	}
	from, err := s.Get(ctx, IDRequest{req.ID})
	if err != nil {
		return Client{}, err
	}
	into, err := s.Get(ctx, IDRequest{req.Into})
	if err != nil {
		return Client{}, err
	}
	if from.AgentID != into.AgentID {
		return Client{}, fault.New(fault.Conflict, "different_agents", "The clients belong to different agents")
	}
	err = s.Tx.InTx(ctx, func(ctx context.Context) error {
		now := s.Clock.Now()
		if err := s.Links.Change(ctx, req.ID, req.Into, now); err != nil {
			return err
		}
		// The client is removed first: its e-mail and phone are unique.
		err := s.Clients.Remove(ctx, req.ID, func(c *Client) ([]event.Event, error) {
			from = *c
			return []event.Event{c.erase(&req.Into, now)}, nil
		})
		if err != nil {
			return err
		}
		merged, err = s.Clients.Change(ctx, req.Into, func(c *Client) ([]event.Event, error) {
			return []event.Event{c.edit(c.filled(from.Fields), now)}, nil
		})
		return err
	})
	return merged, err
}

// ListTimeline returns a page of what happened with a client, newest first. It fails as Get does.
func (s *Service) ListTimeline(ctx context.Context, req timeline.Request) (page.Of[timeline.Item], error) {
	if _, err := s.Get(ctx, IDRequest{req.ID}); err != nil {
		return page.Of[timeline.Item]{}, err
	}
	return s.Timeline.List(ctx, timeline.Filter{ClientID: req.ID, Request: req.Request})
}
