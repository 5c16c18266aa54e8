package call

import (
	"context"
	"errors"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/page"
)

// self is the name of this service in confirmations.
const self = "calls"

// reasonHold is why an erasure waits.
const reasonHold = "legal_hold"

// Requests stores the requests to erase a person of which something is left.
type Requests interface {
	// Create stores a request, unless it is stored. The recordings of calls of the person that are deleted from then on belong to it.
	Create(ctx context.Context, request events.Erasure) error
	// List returns up to limit requests that wait for no call on legal hold any more, or have other calls left, the oldest first.
	List(ctx context.Context, limit int) ([]events.Erasure, error)
	// Remove deletes the request and publishes the event that done returns, unless calls of the person or their recordings are left. If
	// calls are left it publishes the event that waiting returns. It also deletes the stored answers that show the person or the deleted
	// calls.
	Remove(ctx context.Context, request events.Erasure, deleted []string, done, waiting func(events.Erasure) event.Event) error
}

// pageSize is how many calls are read at once.
const pageSize = 200

// OnErasureRequested deletes the calls with a client or lead: transcripts and insights at once, recordings by jobs, the last of which
// confirms. Calls on legal hold remain, and with them the request: ContinueErasures does the rest. Of an agent, calls has nothing but
// ids: its calls belong to the team.
func (s *Service) OnErasureRequested(ctx context.Context, r event.Received[events.Erasure]) error {
	var err error
	switch x := r.Data; x.Kind {
	case events.KindClient:
		// The owner of a deleted client has no meaning.
		err = s.Clients.Upsert(ctx, Client{ID: x.SubjectID, Version: x.SubjectVersion, AgentID: x.RequestedBy, Deleted: true})
	case events.KindLead:
		err = s.Leads.Upsert(ctx, Lead{ID: x.SubjectID, Version: x.SubjectVersion, Deleted: true})
	}
	if err != nil {
		return err
	}
	return s.erase(ctx, r.Data)
}

// ContinueErasures erases what was on legal hold when the erasure was requested.
func (s *Service) ContinueErasures(ctx context.Context) error {
	open, err := s.Requests.List(ctx, erasureSize)
	for _, x := range open {
		err = errors.Join(err, s.erase(ctx, x))
	}
	return err
}

// erase deletes the calls of a person that are not on legal hold.
func (s *Service) erase(ctx context.Context, x events.Erasure) error {
	if err := s.Requests.Create(ctx, x); err != nil {
		return err
	}
	var filter Filter
	switch x.Kind {
	case events.KindClient:
		filter.ClientID = x.SubjectID
	case events.KindLead:
		filter.LeadID = x.SubjectID
	}
	var deleted []string
	if filter.ClientID+filter.LeadID != "" {
		err := s.removeAll(ctx, filter, func(id string) { deleted = append(deleted, id) })
		if err != nil {
			return err
		}
	}
	return s.Requests.Remove(ctx, x, deleted,
		func(x events.Erasure) event.Event { return x.DoneBy(self, s.Clock.Now()) },
		func(x events.Erasure) event.Event { return x.WaitsIn(self, reasonHold, s.Clock.Now()) })
}

// removeAll deletes the selected calls that are not on legal hold.
func (s *Service) removeAll(ctx context.Context, f Filter, removed func(id string)) error {
	f.NotOnHold = true
	return s.each(ctx, f, func(id string) error {
		err := s.Calls.Remove(ctx, id, func(c *Call) ([]event.Event, error) { return c.Delete(s.Clock.Now()), c.checkHold() })
		switch {
		case err == nil:
			removed(id)
		case fault.Of(err).Code == codeOnHold, fault.Is(err, fault.NotFound): // since it was listed
			return nil
		}
		return err
	})
}

// each calls fn with the id of every selected call. After fn, the call must no longer be selected.
func (s *Service) each(ctx context.Context, f Filter, fn func(id string) error) error {
	f.Request = page.Request{Limit: pageSize}
	for {
		found, err := s.Calls.List(ctx, f)
		if err != nil || len(found.Items) == 0 {
			return err
		}
		for _, c := range found.Items {
			if err := fn(c.ID); err != nil {
				return err
			}
		}
	}
}
