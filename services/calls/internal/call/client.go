package call

import (
	"context"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
)

// Client is the copy of a client that crm owns. Its JSON is that of crm's API, from which it may be fetched.
type Client struct {
	ID      string  `json:"id"`
	Version int64   `json:"-"` // of crm's client
	AgentID string  `json:"agent_id"`
	Phone   *string `json:"phone"` // E.164
	Deleted bool    `json:"-"`
}

// Owner implements copies.Object.
func (c Client) Owner() (agentID string, exists bool) { return c.AgentID, !c.Deleted }

// Clients returns the copies of clients.
func Clients(store copies.Store[Client], fetch copies.Fetch[Client]) copies.Of[Client] {
	return copies.Of[Client]{Store: store, Fetch: fetch, NotFound: clientNotFound, Forbidden: clientForbidden}
}

func clientNotFound() error {
	return fault.New(fault.NotFound, "client_not_found", "Client not found")
}

func clientForbidden() error {
	return fault.New(fault.Forbidden, "client_forbidden", "This client belongs to another agent")
}

// OnClientChanged copies the state of a client.
func (s *Service) OnClientChanged(ctx context.Context, e event.Received[events.Client]) error {
	return s.Clients.Upsert(ctx, copyOf(e.Data))
}

// OnClientDeleted marks the copy as deleted, so that an event that arrives late does not bring it back.
func (s *Service) OnClientDeleted(ctx context.Context, e event.Received[events.Client]) error {
	c := copyOf(e.Data)
	c.Phone, c.Deleted = nil, true
	return s.Clients.Upsert(ctx, c)
}

func copyOf(c events.Client) Client {
	return Client{ID: c.ClientID, Version: c.Version, AgentID: c.AgentID, Phone: c.Phone}
}
