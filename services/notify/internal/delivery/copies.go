package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/copies"
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

// Lead is notify's copy of a lead. An erased one has only its id and version.
type Lead struct {
	ID      string
	Version int64 // of crm's lead
	Name    *string
	Phone   *string
}

// OnLeadChanged copies the state of a lead and creates the deliveries of its event.
func (s *Service) OnLeadChanged(ctx context.Context, e event.Received[events.Lead]) error {
	l := e.Data
	if err := s.Leads.Upsert(ctx, Lead{ID: l.LeadID, Version: l.Version, Name: &l.Name, Phone: numberOf(l)}); err != nil {
		return err
	}
	return s.deliver(ctx, e.Event, nil)
}

// OnLeadDeleted erases the copy.
func (s *Service) OnLeadDeleted(ctx context.Context, e event.Received[events.Lead]) error {
	return s.Leads.Upsert(ctx, Lead{ID: e.Data.LeadID, Version: e.Data.Version})
}

// people are the agent, client and lead that an event is about. Each is nil if it has no copy.
type people struct {
	agent  *Agent
	client *Client
	lead   *Lead
}

// people finds the agent, client and lead of a delivery. complete is false if the event names one that has no copy.
func (s *Service) people(ctx context.Context, d Delivery) (who people, complete bool, err error) {
	var about struct {
		AgentID         *string `json:"agent_id"`
		AssignedAgentID *string `json:"assigned_agent_id"` // of a lead, which is its own copy
		ClientID        *string `json:"client_id"`
		LeadID          *string `json:"lead_id"`
	}
	if err := json.Unmarshal(d.Data, &about); err != nil {
		return who, false, fmt.Errorf("%w: read who delivery %s is about: %w", errPayload, d.ID, err)
	}
	if strings.HasPrefix(d.Event, "lead.") {
		about.AgentID, about.ClientID, about.LeadID = about.AssignedAgentID, nil, nil
	}
	complete = true
	for _, find := range []func() (bool, error){
		func() (ok bool, err error) { who.agent, ok, err = find(ctx, s.Agents, about.AgentID); return ok, err },
		func() (ok bool, err error) {
			who.client, ok, err = find(ctx, s.Clients, about.ClientID)
			return ok, err
		},
		func() (ok bool, err error) { who.lead, ok, err = find(ctx, s.Leads, about.LeadID); return ok, err },
	} {
		ok, err := find()
		if err != nil {
			return who, false, err
		}
		complete = complete && ok
	}
	return who, complete, nil
}

// find reads the copy of an object. ok is false if it should have one and has none.
func find[T any](ctx context.Context, from copies.Store[T], id *string) (copied *T, ok bool, err error) {
	if id == nil {
		return nil, true, nil
	}
	found, ok, err := from.Find(ctx, *id)
	if err != nil || !ok {
		return nil, false, err
	}
	return &found, true, nil
}
