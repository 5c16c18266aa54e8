package delivery

import (
	"context"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
)

// Agent is notify's copy of who a sales rep is.
type Agent struct {
	ID      string
	Version int64 // of auth's agent
	Name    string
	Email   string
}

// Client is notify's copy of who a customer is. An erased one has only its id and version.
type Client struct {
	ID      string
	Version int64 // of crm's client
	Name    *string
	Phone   *string
	Email   *string
}

// Agents keeps the copies of agents.
type Agents interface {
	// Find is false for an agent that no event has told of.
	Find(ctx context.Context, id string) (a Agent, ok bool, err error)
	// Change makes or replaces the copy, unless it is at that version or a newer one already.
	Change(ctx context.Context, a Agent) error
}

// Clients keeps the copies of clients.
type Clients interface {
	// Find is false for a client that no event has told of.
	Find(ctx context.Context, id string) (c Client, ok bool, err error)
	// Change makes or replaces the copy, unless it is at that version or a newer one already.
	Change(ctx context.Context, c Client) error
}

// OnAgentChanged takes over the state of an agent.
func (s *Service) OnAgentChanged(ctx context.Context, e event.Received[events.Agent]) error {
	a := e.Data
	return s.agents.Change(ctx, Agent{ID: a.AgentID, Version: a.Version, Name: a.FullName, Email: a.Email})
}

// OnClientChanged takes over the state of a client.
func (s *Service) OnClientChanged(ctx context.Context, e event.Received[events.Client]) error {
	c := e.Data
	return s.clients.Change(ctx, Client{ID: c.ClientID, Version: c.Version, Name: &c.Name, Phone: c.Phone, Email: c.Email})
}

// OnClientDeleted erases the copy.
func (s *Service) OnClientDeleted(ctx context.Context, e event.Received[events.Client]) error {
	return s.clients.Change(ctx, Client{ID: e.Data.ClientID, Version: e.Data.Version})
}
