package call

import (
	"context"
	"fmt"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Client is the copy of a client that crm owns. Its JSON is that of crm's API, from which it may be fetched.
type Client struct {
	ID      string  `json:"id"`
	Version int64   `json:"-"` // of crm's client
	AgentID string  `json:"agent_id"`
	Phone   *string `json:"phone"` // E.164
	Deleted bool    `json:"-"`
	// MergedInto is the client that a deleted one was merged into.
	MergedInto *string `json:"-"`
}

// Owner implements copies.Object.
func (c Client) Owner() (agentID string, exists bool) { return c.AgentID, !c.Deleted }

// Clients returns the copies of clients.
func Clients(store copies.Store[Client], fetch copies.Fetch[Client]) copies.Of[Client] {
	return copies.Of[Client]{Store: store, Fetch: fetch, NotFound: ClientNotFound, Forbidden: clientForbidden}
}

const codeClientNotFound = "client_not_found"

// ClientNotFound is the fault of a client that does not exist, or was deleted.
func ClientNotFound() error {
	return fault.New(fault.NotFound, codeClientNotFound, "Client not found")
}

func clientForbidden() error {
	return fault.New(fault.Forbidden, "client_forbidden", "This client belongs to another agent")
}

// OnClientChanged copies the state of a client.
func (s *Service) OnClientChanged(ctx context.Context, e event.Received[events.Client]) error {
	return s.Clients.Upsert(ctx, copyOf(e.Data))
}

// OnClientDeleted marks the copy as deleted, so that an event that arrives late does not bring it back. The calls of a client that was
// merged into another one become calls of the other, or of the one that that was merged into meanwhile. If that was erased, they are
// deleted as its erasure would have done. The calls of any other client are deleted by its own erasure.
func (s *Service) OnClientDeleted(ctx context.Context, e event.Received[events.Client]) error {
	c := copyOf(e.Data)
	c.Phone, c.Deleted, c.MergedInto = nil, true, e.Data.MergedInto
	if err := s.Clients.Upsert(ctx, c); err != nil || c.MergedInto == nil {
		return err
	}
	into, erased, err := s.survivor(ctx, *c.MergedInto)
	if err != nil {
		return err
	}
	var filter Filter
	filter.ClientID = c.ID
	if erased {
		return s.removeAll(ctx, filter, func(string) {})
	}
	return s.each(ctx, filter, func(id string) error {
		_, err := s.Calls.ChangeParties(ctx, id, Parties{ClientID: &into}, func(call *Call) ([]event.Event, error) {
			return call.edit(func() error {
				call.Details.ClientID = &into
				return nil
			}, s.Clock.Now())
		})
		if fault.Of(err).Code == codeClientNotFound { // a fault would not be tried again
			return fmt.Errorf("move call %s: client %s was deleted meanwhile", id, into)
		}
		return err
	})
}

// maxMerges limits how often a merged client is followed to the next one.
const maxMerges = 10

// survivor returns the client that a client is now: itself, or the last one that it was merged into. The events of two merges arrive
// in any order. deleted says whether that client was deleted.
func (s *Service) survivor(ctx context.Context, id string) (last string, deleted bool, err error) {
	for range maxMerges {
		c, _, err := s.Clients.Find(ctx, id)
		if err != nil || c.MergedInto == nil {
			return id, c.Deleted, err
		}
		id = *c.MergedInto
	}
	return id, false, nil
}

// current returns the client that the caller may see, or the one that it was merged into.
func (s *Service) current(ctx context.Context, caller identity.Caller, id string) (Client, error) {
	last, _, err := s.survivor(ctx, id)
	if err != nil {
		return Client{}, err
	}
	return s.Clients.Get(ctx, caller, last)
}

func copyOf(c events.Client) Client {
	return Client{ID: c.ClientID, Version: c.Version, AgentID: c.AgentID, Phone: c.Phone}
}
