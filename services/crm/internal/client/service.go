package client

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/identity"
)

// Store keeps clients. A client that does not exist is the fault NotFound; a phone or e-mail that another client of the same
// agent has is the fault Exists.
type Store interface {
	Create(ctx context.Context, c Client, events ...contract.Event) error
	Find(ctx context.Context, id string) (Client, error)
	List(ctx context.Context, f Filter) (Page, error)
	// Change lets fn change the client while nobody else can, and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*Client) ([]contract.Event, error)) (Client, error)
	// Remove deletes the client with the events that fn returns. Its follow-ups stay and name no client any more.
	Remove(ctx context.Context, id string, fn func(*Client) ([]contract.Event, error)) error
}

// Filter chooses a page of clients, newest first.
type Filter struct {
	AgentID string // empty for all agents
	Q       string // part of the name, company, e-mail or phone
	Limit   int
	Cursor  string // from Page.Next
	Skip    int
}

// Page is part of a list.
type Page struct {
	Items []Client
	Next  string // cursor of the next page, empty on the last
}

const defaultLimit = 50 // as the HTTP contract says

// Service is what agents do with their clients.
type Service struct {
	clients   Store
	normalize NormalizePhone
	clock     clock.Clock
}

// NewService makes the service.
func NewService(clients Store, normalize NormalizePhone, c clock.Clock) *Service {
	return &Service{clients, normalize, c}
}

// Create adds a client of the caller.
func (s *Service) Create(ctx context.Context, req Fields) (Client, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Client{}, err
	}
	fields, err := req.cleaned(s.normalize)
	if err != nil {
		return Client{}, err
	}
	c, created := create(caller.AgentID, fields, s.clock.Now())
	return c, s.clients.Create(ctx, c, created)
}

// ListRequest is the query of a list.
type ListRequest struct {
	Q      string `query:"q"`
	Limit  int    `query:"limit"`
	Cursor string `query:"cursor"`
	Skip   int    `query:"skip"`
}

// List is the caller's clients, or everybody's for an admin.
func (s *Service) List(ctx context.Context, req ListRequest) (Page, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Page{}, err
	}
	f := Filter{AgentID: caller.AgentID, Q: req.Q, Limit: req.Limit, Cursor: req.Cursor, Skip: req.Skip}
	if caller.IsAdmin() {
		f.AgentID = ""
	}
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	return s.clients.List(ctx, f)
}

// IDRequest names one client.
type IDRequest struct {
	ID string `path:"id"`
}

// Get is one client.
func (s *Service) Get(ctx context.Context, req IDRequest) (Client, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Client{}, err
	}
	c, err := s.clients.Find(ctx, req.ID)
	if err != nil {
		return Client{}, err
	}
	return c, c.checkAccess(caller)
}

// ReplaceRequest is every field of one client: what is left out becomes null.
type ReplaceRequest struct {
	ID string `path:"id"`
	Fields
}

// Replace writes every field anew.
func (s *Service) Replace(ctx context.Context, req ReplaceRequest) (Client, error) {
	return s.change(ctx, req.ID, func(f *Fields) error {
		*f = req.Fields
		return nil
	})
}

// UpdateRequest is some fields of one client: what is left out stays, null clears.
type UpdateRequest struct {
	ID      string          `path:"id"`
	Name    *string         `json:"name"`
	Email   json.RawMessage `json:"email"`
	Phone   json.RawMessage `json:"phone"`
	Company json.RawMessage `json:"company"`
	Notes   json.RawMessage `json:"notes"`
}

// Update writes the fields that were sent.
func (s *Service) Update(ctx context.Context, req UpdateRequest) (Client, error) {
	return s.change(ctx, req.ID, func(f *Fields) error {
		if req.Name != nil {
			f.Name = *req.Name
		}
		return errors.Join(merge(req.Email, &f.Email), merge(req.Phone, &f.Phone), merge(req.Company, &f.Company), merge(req.Notes, &f.Notes))
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

func (s *Service) change(ctx context.Context, id string, edit func(*Fields) error) (Client, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Client{}, err
	}
	return s.clients.Change(ctx, id, func(c *Client) ([]contract.Event, error) {
		if err := c.checkAccess(caller); err != nil {
			return nil, err
		}
		fields := c.Fields
		if err := edit(&fields); err != nil {
			return nil, err
		}
		if fields, err = fields.cleaned(s.normalize); err != nil {
			return nil, err
		}
		return []contract.Event{c.edit(fields, s.clock.Now())}, nil
	})
}

// Delete erases a client here, and by its event everywhere.
func (s *Service) Delete(ctx context.Context, req IDRequest) (struct{}, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, s.clients.Remove(ctx, req.ID, func(c *Client) ([]contract.Event, error) {
		if err := c.checkAccess(caller); err != nil {
			return nil, err
		}
		return []contract.Event{c.erase(s.clock.Now())}, nil
	})
}
