package call

import (
	"context"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/page"
)

// self is the name of this service in confirmations.
const self = "calls"

// Requests stores the requests to erase a person whose recordings are not all removed yet.
type Requests interface {
	// Create stores a request with the calls that were deleted for it, unless none of their recordings must be removed: then it
	// publishes the event that done returns. It also deletes the stored answers that show the person or the calls.
	Create(ctx context.Context, request events.Erasure, callIDs []string, done func(events.Erasure) event.Event) error
}

// pageSize is how many calls are read at once.
const pageSize = 200

// OnErasureRequested deletes the calls with a client or lead: transcripts and insights at once, recordings by jobs, the last of which
// confirms. Calls on legal hold remain. Of an agent, calls has nothing but ids: its calls belong to the team.
func (s *Service) OnErasureRequested(ctx context.Context, r event.Received[events.Erasure]) error {
	x := r.Data
	var filter Filter
	switch x.Kind {
	case events.KindClient:
		// The owner of a deleted client has no meaning.
		err := s.Clients.Upsert(ctx, Client{ID: x.SubjectID, Version: x.SubjectVersion, AgentID: x.RequestedBy, Deleted: true})
		if err != nil {
			return err
		}
		filter.ClientID = x.SubjectID
	case events.KindLead:
		if err := s.Leads.Upsert(ctx, Lead{ID: x.SubjectID, Version: x.SubjectVersion, Deleted: true}); err != nil {
			return err
		}
		filter.LeadID = x.SubjectID
	}
	var deleted []string
	if filter.ClientID+filter.LeadID != "" {
		var err error
		if deleted, err = s.removeAll(ctx, filter); err != nil {
			return err
		}
	}
	return s.Requests.Create(ctx, x, deleted, s.confirm)
}

// removeAll deletes the selected calls that are not on legal hold, and returns their ids.
func (s *Service) removeAll(ctx context.Context, f Filter) (deleted []string, err error) {
	f.NotOnHold = true
	err = s.each(ctx, f, func(id string) error {
		err := s.Calls.Remove(ctx, id, func(c *Call) ([]event.Event, error) { return c.Delete(s.Clock.Now()), c.checkHold() })
		if fault.Of(err).Code == codeOnHold {
			return nil
		}
		deleted = append(deleted, id)
		return err
	})
	return deleted, err
}

func (s *Service) confirm(x events.Erasure) event.Event { return x.DoneBy(self, s.Clock.Now()) }

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
