package delivery

import (
	"context"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
)

// Agent is notify's copy of a sales rep.
type Agent struct {
	ID      string
	Version int64 // of auth's agent
	Name    string
	Email   string
}

// Client is notify's copy of a customer. A deleted one has only ids and its version.
type Client struct {
	ID      string
	Version int64 // of crm's client
	Name    *string
	Phone   *string
	Email   *string
	// MergedInto is the client that a deleted one was merged into.
	MergedInto *string
}

// OnAgentChanged copies the state of an agent.
func (s *Service) OnAgentChanged(ctx context.Context, e event.Received[events.Agent]) error {
	a := e.Data
	return s.Agents.Upsert(ctx, Agent{ID: a.AgentID, Version: a.Version, Name: a.FullName, Email: a.Email})
}

// OnClientChanged copies the state of a client.
func (s *Service) OnClientChanged(ctx context.Context, e event.Received[events.Client]) error {
	c := e.Data
	return s.Clients.Upsert(ctx, Client{ID: c.ClientID, Version: c.Version, Name: &c.Name, Phone: c.Phone, Email: c.Email})
}

// OnClientDeleted erases the copy.
func (s *Service) OnClientDeleted(ctx context.Context, e event.Received[events.Client]) error {
	return s.Clients.Upsert(ctx, Client{ID: e.Data.ClientID, Version: e.Data.Version, MergedInto: e.Data.MergedInto})
}

// maxMerges limits how often a merged client is followed to the next one.
const maxMerges = 10

// client finds the copy of a client, or of the one that it was merged into.
func (s *Service) client(ctx context.Context, id string) (c Client, ok bool, err error) {
	for range maxMerges {
		c, ok, err = s.Clients.Find(ctx, id)
		if err != nil || !ok || c.MergedInto == nil {
			break
		}
		id = *c.MergedInto
	}
	return c, ok, err
}

// erased reports whether a client was deleted, other than by a merge.
func (s *Service) erased(ctx context.Context, clientID *string) (bool, error) {
	if clientID == nil {
		return false, nil
	}
	c, ok, err := s.client(ctx, *clientID)
	return ok && c.Name == nil, err
}

// people are the agent and client that an event is about. Either is nil if it has no copy.
type people struct {
	agent  *Agent
	client *Client
}

// people finds the agent and client of a delivery. complete is false if the event names one that has no copy.
func (s *Service) people(ctx context.Context, d Delivery) (who people, complete bool, err error) {
	if d.About.AgentID == nil {
		return who, true, nil
	}
	agent, hasAgent, err := s.Agents.Find(ctx, *d.About.AgentID)
	if err != nil {
		return who, false, err
	}
	if hasAgent {
		who.agent = &agent
	}
	if d.About.ClientID == nil {
		return who, hasAgent, nil
	}
	client, hasClient, err := s.client(ctx, *d.About.ClientID)
	if err != nil {
		return who, false, err
	}
	if hasClient {
		who.client = &client
	}
	return who, hasAgent && hasClient, nil
}
