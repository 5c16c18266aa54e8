package delivery

import (
	"context"
	"errors"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// Store stores deliveries. One that does not exist is the fault NotFound, and a database that does not respond is Unavailable.
type Store interface {
	// Create stores deliveries. It ignores one whose event and endpoint already had one, even if it is not stored any more.
	Create(ctx context.Context, deliveries ...Delivery) error
	// Find reads a delivery with its attempts.
	Find(ctx context.Context, id string) (Delivery, error)
	// List reads deliveries without their data, body and attempts.
	List(ctx context.Context, f Filter) (page.Of[Delivery], error)
	// ChangeEach lets fn change every selected delivery, except those that another transaction is changing, and returns how many. After
	// fn, a delivery must no longer match the selection.
	ChangeEach(ctx context.Context, s Selection, fn func(*Delivery) []event.Event) (int, error)
	// Resume makes the deliveries of an endpoint that wait for a retry due, in the order of their age.
	Resume(ctx context.Context, endpointID string) error
	// Replay stores a new delivery for each that a replay selects, due in the order of their age.
	Replay(ctx context.Context, r Replay, replayID string, limit int) (int, error)
	// CountReplay counts what Replay would store, up to limit.
	CountReplay(ctx context.Context, r Replay, limit int) (int, error)
}

// Selection selects deliveries that wait.
type Selection struct {
	Deleted  bool   // those of endpoints that were deleted
	ReplayID string // those of a replay
}

// Endpoints stores the receivers of deliveries.
type Endpoints interface {
	Find(ctx context.Context, id string) (endpoint.Endpoint, error)
	List(ctx context.Context) ([]endpoint.Endpoint, error)
	Change(ctx context.Context, id string, fn func(*endpoint.Endpoint) ([]event.Event, error)) (endpoint.Endpoint, error)
}

// Service creates deliveries and reports their state. A Dispatcher sends them.
type Service struct {
	Deliveries Store
	Endpoints  Endpoints
	Erasures   Erasures
	Archive    Archive
	Renderer
	Sender Sender // of test events
	// Wake makes the Dispatcher look for deliveries that are due, after the commit of the transaction in ctx.
	Wake func(ctx context.Context)
}

// OnTranscriptionCompleted creates the deliveries of a call that was transcribed, or could not be.
func (s *Service) OnTranscriptionCompleted(ctx context.Context, e event.Received[events.Call]) error {
	return s.deliver(ctx, e.Event, &e.Data.CallID)
}

// OnFollowUp creates the deliveries of an event of a follow-up.
func (s *Service) OnFollowUp(ctx context.Context, e event.Received[events.FollowUp]) error {
	return s.deliver(ctx, e.Event, &e.Data.CallID)
}

// EndpointDisabled delivers the event of an endpoint that was disabled to the other endpoints.
func (s *Service) EndpointDisabled(ctx context.Context, e event.Event) error {
	return s.deliver(ctx, e, nil)
}

// MaxAge is the age of the oldest event that is delivered. It is longer than topics with a retention have it. An older one is of a
// compacted topic that is read anew, and whether it was delivered is not known any more.
const MaxAge = 35 * 24 * time.Hour

// deliver creates a delivery for every endpoint whose filters match the event, in the transaction of ctx.
func (s *Service) deliver(ctx context.Context, e event.Event, callID *string) error {
	if s.Clock.Now().Sub(e.Time) > MaxAge {
		return nil
	}
	who, err := about(e.Data)
	if err != nil {
		return err
	}
	if erased, err := s.erased(ctx, e.Type, who); err != nil || erased {
		return err // the event had been published before the person was erased
	}
	endpoints, err := s.Endpoints.List(ctx)
	if err != nil {
		return err
	}
	var deliveries []Delivery
	bodies := map[endpoint.Profile][]byte{}
	for _, to := range endpoints {
		if !to.Wants(e.Type) || to.ID == e.Key { // the event of an endpoint is for the others
			continue
		}
		d := create(to.ID, e, callID, who, s.Clock.Now())
		if _, ok := bodies[to.Profile]; !ok {
			if bodies[to.Profile], err = s.early(ctx, d, to.Profile); err != nil {
				return err
			}
		}
		d.Body = bodies[to.Profile]
		deliveries = append(deliveries, d)
	}
	if len(deliveries) == 0 {
		return nil
	}
	if err := s.Deliveries.Create(ctx, deliveries...); err != nil {
		return err
	}
	s.Wake(ctx)
	return nil
}

// Resume makes the waiting deliveries of an endpoint that was enabled due at once, in the order of their age.
func (s *Service) Resume(ctx context.Context, endpointID string) error {
	if err := s.Deliveries.Resume(ctx, endpointID); err != nil {
		return err
	}
	s.Wake(ctx)
	return nil
}

// Discard ends the waiting deliveries of endpoints that were deleted. It is repeated for one that was being sent when its endpoint was
// deleted, or created at that moment, and for all if the process that deleted it ended before Discard.
func (s *Service) Discard(ctx context.Context) error {
	_, err := s.Deliveries.ChangeEach(ctx, Selection{Deleted: true}, func(d *Delivery) []event.Event {
		return d.discard("endpoint_deleted", s.Clock.Now())
	})
	return err
}

// Renderer makes the payloads of deliveries from their events and the copies of whom these name.
type Renderer struct {
	Agents    copies.Store[Agent]
	Clients   copies.Store[Client]
	Leads     copies.Store[Lead]
	Clock     clock.Clock
	PublicURL string // of the API, for the links in payloads
}

// copyTimeout is how long after its arrival an event waits for the copies of the agent, client and lead that it names: their events
// arrive on other topics.
const copyTimeout = 30 * time.Second

// early renders the payload of a new delivery, if all copies are there. Without a payload the first attempt makes it.
func (r *Renderer) early(ctx context.Context, d Delivery, p endpoint.Profile) ([]byte, error) {
	who, complete, err := r.people(ctx, d)
	if err != nil || !complete {
		return nil, err
	}
	body, err := render(p, d, who, links{r.PublicURL})
	if errors.Is(err, errPayload) {
		return nil, nil // the first attempt rejects it
	}
	return body, err
}

// body renders the payload for the first attempt. It is nil while the copies that it needs may still arrive; later it is incomplete.
func (r *Renderer) body(ctx context.Context, d Delivery, p endpoint.Profile) (body []byte, incomplete bool, err error) {
	who, complete, err := r.people(ctx, d)
	if err != nil || !complete && r.Clock.Now().Before(d.CreatedAt.Add(copyTimeout)) {
		return nil, false, err
	}
	body, err = render(p, d, who, links{r.PublicURL})
	return body, !complete, err
}
