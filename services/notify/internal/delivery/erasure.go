package delivery

import (
	"context"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
)

// self is the name of this service in confirmations.
const self = "notify"

// Erasures erases what deliveries have of a person.
type Erasures interface {
	// Create publishes the confirmation of an erasure.
	Create(ctx context.Context, confirmation event.Event) error
	// Remove blanks the payloads and the receivers' answers of every delivery about a client, or one that was merged into it, or a lead;
	// those that are not delivered end as dead, with the reason "erased". Of an agent, only the name and address are in what was sent:
	// deliveries of its events continue, with payloads that are rendered again without them.
	Remove(ctx context.Context, kind, subjectID string) error
}

// OnErasureRequested erases a person: its copy, and what deliveries have of it.
func (s *Service) OnErasureRequested(ctx context.Context, r event.Received[events.Erasure]) error {
	x := r.Data
	var err error
	switch x.Kind {
	case events.KindClient:
		err = s.Clients.Upsert(ctx, Client{ID: x.SubjectID, Version: x.SubjectVersion})
	case events.KindLead:
		err = s.Leads.Upsert(ctx, Lead{ID: x.SubjectID, Version: x.SubjectVersion})
	case events.KindAgent:
		err = s.Agents.Upsert(ctx, Agent{ID: x.SubjectID, Version: x.SubjectVersion})
	}
	if err != nil {
		return err
	}
	if err := s.Erasures.Remove(ctx, x.Kind, x.SubjectID); err != nil {
		return err
	}
	return s.Erasures.Create(ctx, x.DoneBy(self, s.Clock.Now()))
}
