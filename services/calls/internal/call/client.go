package call

import (
	"context"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Client is the copy of a client that crm owns.
type Client struct {
	ID      string
	Version int64 // of crm's client; 0 for a copy that was not made from an event, so that the first event replaces it
	AgentID string
	Deleted bool
}

// Clients stores the copies.
type Clients interface {
	// Find is false for a client that no event has named yet.
	Find(ctx context.Context, id string) (c Client, ok bool, err error)
	// Upsert stores a copy; one that is not newer than the stored one is ignored.
	Upsert(ctx context.Context, c Client) error
}

// CRM is the service that owns clients. Find asks it in the caller's name: NotFound, Forbidden and Unauthenticated are its
// answers, anything that goes wrong is Unavailable.
type CRM interface {
	Find(ctx context.Context, id string) (Client, error)
}

func clientNotFound() error {
	return fault.New(fault.NotFound, "client_not_found", "Client not found")
}

func clientForbidden() error {
	return fault.New(fault.Forbidden, "client_forbidden", "This client belongs to another agent")
}

// checkClient fails unless the client exists and the caller may see it.
func (s *Service) checkClient(ctx context.Context, caller identity.Caller, id string) error {
	c, ok, err := s.Clients.Find(ctx, id)
	switch {
	case err != nil:
		return err
	case !ok, c.Deleted:
		return clientNotFound()
	case !caller.MaySee(c.AgentID):
		return clientForbidden()
	}
	return nil
}

// learnClient copies a client that was made a moment ago, and whose event is still on its way, from crm.
func (s *Service) learnClient(ctx context.Context, id string) error {
	if _, ok, err := s.Clients.Find(ctx, id); ok || err != nil {
		return err
	}
	c, err := s.CRM.Find(ctx, id)
	switch {
	case fault.Is(err, fault.NotFound):
		return clientNotFound()
	case fault.Is(err, fault.Forbidden):
		return clientForbidden()
	case err != nil:
		return err
	}
	return s.Clients.Upsert(ctx, c)
}

// OnClientChanged copies the state of a client.
func (s *Service) OnClientChanged(ctx context.Context, e event.Received[events.Client]) error {
	return s.Clients.Upsert(ctx, copyOf(e.Data))
}

// OnClientDeleted marks the copy as deleted, so that an event that arrives late does not bring it back.
func (s *Service) OnClientDeleted(ctx context.Context, e event.Received[events.Client]) error {
	c := copyOf(e.Data)
	c.Deleted = true
	return s.Clients.Upsert(ctx, c)
}

func copyOf(c events.Client) Client {
	return Client{ID: c.ClientID, Version: c.Version, AgentID: c.AgentID}
}
