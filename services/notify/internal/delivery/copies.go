package delivery

import (
	"context"
	"encoding/json"
	"fmt"

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

// Client is notify's copy of a customer. An erased one has only its id and version.
type Client struct {
	ID      string
	Version int64 // of crm's client
	Name    *string
	Phone   *string
	Email   *string
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
	return s.Clients.Upsert(ctx, Client{ID: e.Data.ClientID, Version: e.Data.Version})
}

// people are the agent and client that an event is about. Either is nil if it has no copy.
type people struct {
	agent  *Agent
	client *Client
}

// people finds the agent and client of a delivery. complete is false if the event names one that has no copy.
func (s *Service) people(ctx context.Context, d Delivery) (who people, complete bool, err error) {
	var about struct {
		AgentID  string  `json:"agent_id"`
		ClientID *string `json:"client_id"`
	}
	if err := json.Unmarshal(d.Data, &about); err != nil {
		return who, false, fmt.Errorf("%w: read who delivery %s is about: %w", errPayload, d.ID, err)
	}
	agent, hasAgent, err := s.Agents.Find(ctx, about.AgentID)
	if err != nil {
		return who, false, err
	}
	if hasAgent {
		who.agent = &agent
	}
	if about.ClientID == nil {
		return who, hasAgent, nil
	}
	client, hasClient, err := s.Clients.Find(ctx, *about.ClientID)
	if err != nil {
		return who, false, err
	}
	if hasClient {
		who.client = &client
	}
	return who, hasAgent && hasClient, nil
}
