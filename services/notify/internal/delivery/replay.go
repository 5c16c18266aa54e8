package delivery

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
)

// Replay selects deliveries that have ended, to be sent again: the newest of each event and endpoint. It passes over what was erased, what
// went to an endpoint that was deleted, and events that are already being delivered to the endpoint again. Nil fields do not filter.
type Replay struct {
	Status     *Status    `json:"status"` // delivered or dead
	Event      *string    `json:"event"`
	EndpointID *string    `json:"webhook_id"`
	From       *time.Time `json:"from"` // created then or later
	To         *time.Time `json:"to"`   // created before
	DryRun     bool       `json:"dry_run"`

	id *string // of the only delivery to send again
}

// ID returns the delivery that is the only one to be sent again; nil for all that the filters select.
func (r Replay) ID() *string { return r.id }

// Replayed says how many deliveries a replay has made, or would make.
type Replayed struct {
	Count    int     `json:"count"`
	ReplayID *string `json:"replay_id"` // by which the new deliveries are listed and canceled; null if there are none
}

// maxReplay is the largest number of deliveries of one replay: it is one statement.
const maxReplay = 20_000

// Replay sends deliveries again. Each is a new delivery with the same event id and payload. With DryRun it only counts them. It fails
// with replay_too_large.
func (s *Service) Replay(ctx context.Context, r Replay) (Replayed, error) {
	n, err := s.Deliveries.CountReplay(ctx, r, maxReplay+1)
	if err != nil || n == 0 || r.DryRun && n <= maxReplay {
		return Replayed{Count: n}, err
	}
	if n > maxReplay {
		return Replayed{}, fault.New(fault.Conflict, "replay_too_large", fmt.Sprintf("More than %d deliveries match: choose a shorter time, one webhook or one event", maxReplay))
	}
	return s.replay(ctx, r)
}

func (s *Service) replay(ctx context.Context, r Replay) (Replayed, error) {
	id := event.NewID()
	n, err := s.Deliveries.Replay(ctx, r, id, maxReplay)
	if err != nil || n == 0 {
		return Replayed{}, err
	}
	s.Wake(ctx)
	return Replayed{n, &id}, nil
}

// Redeliver sends a delivery again. It fails with NotFound, with delivery_not_ended if the event is still being delivered to the
// endpoint, and with delivery_erased if there is nothing left to send.
func (s *Service) Redeliver(ctx context.Context, req IDRequest) (Replayed, error) {
	d, err := s.Deliveries.Find(ctx, req.ID)
	if err != nil {
		return Replayed{}, err
	}
	if len(d.Data) <= len("{}") {
		return Replayed{}, fault.New(fault.Conflict, "delivery_erased", "The data of this delivery was erased")
	}
	made, err := s.replay(ctx, Replay{id: &req.ID})
	if err == nil && made.Count == 0 {
		err = fault.New(fault.Conflict, "delivery_not_ended", "This event is still being delivered to the webhook, or the webhook was deleted")
	}
	return made, err
}

// CancelReplay ends the deliveries of a replay that wait. One that is being sent goes on. It fails with replay_not_found if no delivery
// is stored that the replay made.
func (s *Service) CancelReplay(ctx context.Context, req IDRequest) (Replayed, error) {
	n, err := s.Deliveries.ChangeEach(ctx, Selection{ReplayID: req.ID}, func(d *Delivery) []event.Event {
		return d.discard("canceled", s.Clock.Now())
	})
	if err != nil || n > 0 {
		return Replayed{n, &req.ID}, err
	}
	f := Filter{ReplayID: &req.ID}
	f.Limit = 1
	any, err := s.Deliveries.List(ctx, f)
	if err == nil && len(any.Items) == 0 {
		err = fault.New(fault.NotFound, "replay_not_found", "Replay not found")
	}
	return Replayed{0, &req.ID}, err
}
