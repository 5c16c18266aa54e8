package client

import (
	"context"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/patch"
)

// Store stores clients. A client that does not exist is the fault NotFound; a phone or e-mail that another client of the same
// agent has is the fault Exists.
type Store interface {
	Create(ctx context.Context, c Client, events ...event.Event) error
	Find(ctx context.Context, id string) (Client, error)
	List(ctx context.Context, f Filter) (page.Of[Client], error)
	// Change lets fn change the client under a lock, and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*Client) ([]event.Event, error)) (Client, error)
	// Remove deletes the client with the events that fn returns. Its follow-ups remain, without a client.
	Remove(ctx context.Context, id string, fn func(*Client) ([]event.Event, error)) error
}

// Filter selects a page of clients, newest first.
type Filter struct {
	AgentID string // empty for all agents
	Q       string // part of the name, company, e-mail or phone
	page.Request
}

// Service implements the operations on clients.
type Service struct {
	Clients        Store
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
	return s.change(ctx, req.ID, func(f *Fields) {
		if req.Name != nil {
			f.Name = *req.Name
		}
		req.Email.Apply(&f.Email)
		req.Phone.Apply(&f.Phone)
		req.Company.Apply(&f.Company)
		req.Notes.Apply(&f.Notes)
	})
}

func (s *Service) change(ctx context.Context, id string, edit func(*Fields)) (Client, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Client{}, err
	}
	return s.Clients.Change(ctx, id, func(c *Client) ([]event.Event, error) {
		if err := c.checkAccess(caller); err != nil {
			return nil, err
		}
		fields := c.Fields
		edit(&fields)
		if fields, err = fields.cleaned(s.NormalizePhone); err != nil {
			return nil, err
		}
		return []event.Event{c.edit(fields, s.Clock.Now())}, nil
	})
}

// Delete deletes a client; its event makes the other services erase their copies.
func (s *Service) Delete(ctx context.Context, req IDRequest) (struct{}, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, s.Clients.Remove(ctx, req.ID, func(c *Client) ([]event.Event, error) {
		if err := c.checkAccess(caller); err != nil {
			return nil, err
		}
		return []event.Event{c.erase(s.Clock.Now())}, nil
	})
}
