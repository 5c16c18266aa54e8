package client

import (
	"context"
	"errors"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/text"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// Make implements lead.Clients: it returns the client of an agent with the phone or e-mail of a lead, and creates it if there is
// none. It joins the transaction of ctx.
func (s *Service) Make(ctx context.Context, l lead.Lead, agentID string) (string, error) {
	c, created := create(agentID, Fields{Name: l.Name, Email: l.Email, Phone: l.Phone, Notes: shortened(l.Notes)}, s.Clock.Now())
	err := s.Clients.Create(ctx, c, created)
	var exists *fault.Error
	if errors.As(err, &exists) && exists.Code == codeExists {
		id, _ := exists.Extra["client_id"].(string)
		return id, nil
	}
	return c.ID, err
}

func shortened(notes *string) *string {
	if notes == nil {
		return nil
	}
	return new(text.First(*notes, maxNotes))
}
