package delivery

import (
	"context"
	"strings"

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

// OnClientDeleted erases the copy. If the client that it was merged into has been erased meanwhile, so are its deliveries.
func (s *Service) OnClientDeleted(ctx context.Context, e event.Received[events.Client]) error {
	id := e.Data.ClientID
	if err := s.Clients.Upsert(ctx, Client{ID: id, Version: e.Data.Version, MergedInto: e.Data.MergedInto}); err != nil || e.Data.MergedInto == nil {
		return err
	}
	if into, ok, err := s.client(ctx, id); err != nil || !ok || into.Name != nil {
		return err
	}
	return s.Erasures.Remove(ctx, events.KindClient, id)
}

// maxMerges limits how often a merged client is followed to the next one.
const maxMerges = 10

// client finds the copy of a client, or of the one that it was merged into.
func (r *Renderer) client(ctx context.Context, id string) (c Client, ok bool, err error) {
	for range maxMerges {
		c, ok, err = r.Clients.Find(ctx, id)
		if err != nil || !ok || c.MergedInto == nil {
			break
		}
		id = *c.MergedInto
	}
	return c, ok, err
}

// erased reports whether the person that an event is about was deleted, other than by a merge: its client or its lead. The event of a lead
// is about the lead alone: a converted one remains when its client is erased.
func (r *Renderer) erased(ctx context.Context, eventType string, who About) (bool, error) {
	clientID := who.ClientID
	if ofLead(eventType) {
		clientID = nil
	}
	client, _, err := find(ctx, r.client, clientID)
	if err != nil {
		return false, err
	}
	lead, _, err := find(ctx, r.Leads.Find, who.LeadID)
	return client != nil && client.Name == nil || lead != nil && lead.Name == nil, err
}

func ofLead(eventType string) bool { return strings.HasPrefix(eventType, "lead.") }

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
	return s.deliver(ctx, e.Event, e.Data.CallID)
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

// people finds the agent, client and lead of a delivery. complete is false if the event names one that has no copy. The event of a
// lead is its own copy.
func (r *Renderer) people(ctx context.Context, d Delivery) (who people, complete bool, err error) {
	clientID, leadID := d.About.ClientID, d.About.LeadID
	if ofLead(d.Event) {
		clientID, leadID = nil, nil
	}
	complete = true
	for _, find := range []func() (bool, error){
		func() (ok bool, err error) {
			who.agent, ok, err = find(ctx, r.Agents.Find, d.About.AgentID)
			return ok, err
		},
		func() (ok bool, err error) { who.client, ok, err = find(ctx, r.client, clientID); return ok, err },
		func() (ok bool, err error) { who.lead, ok, err = find(ctx, r.Leads.Find, leadID); return ok, err },
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
func find[T any](ctx context.Context, from func(context.Context, string) (T, bool, error), id *string) (copied *T, ok bool, err error) {
	if id == nil {
		return nil, true, nil
	}
	found, ok, err := from(ctx, *id)
	if err != nil || !ok {
		return nil, false, err
	}
	return &found, true, nil
}
