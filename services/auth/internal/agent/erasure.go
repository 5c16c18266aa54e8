package agent

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
)

// self is the name of this service in confirmations.
const self = "auth"

// Erasures erases deleted agents.
type Erasures interface {
	// Create publishes the confirmation of an erasure.
	Create(ctx context.Context, confirmation event.Event) error
	// Remove deletes the row of a deleted agent, after which its e-mail address is free, and the stored answers that show it. It
	// does nothing if there is no deleted agent with that id.
	Remove(ctx context.Context, agentID string) error
}

// erase returns the request to erase what all services have of the agent, which has been removed.
func (a *Agent) erase(requestedBy string, now time.Time) events.Erasure {
	return events.Erasure{
		ErasureID: event.NewID(), Kind: events.KindAgent, SubjectID: a.ID, SubjectVersion: a.Version, RequestedBy: requestedBy, RequestedAt: now,
	}
}

// OnErasureRequested erases an agent. Of clients and leads auth has nothing, which it confirms too.
func (s *Service) OnErasureRequested(ctx context.Context, r event.Received[events.Erasure]) error {
	if r.Data.Kind == events.KindAgent {
		if err := s.Erasures.Remove(ctx, r.Data.SubjectID); err != nil {
			return err
		}
	}
	return s.Erasures.Create(ctx, r.Data.DoneBy(self, s.Clock.Now()))
}
