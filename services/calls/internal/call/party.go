package call

import (
	"context"

	"github.com/convoflow/convoflow/libs/identity"
)

// Parties are the client or lead of a call, as a request names them.
type Parties struct {
	ClientID *string `json:"client_id"`
	LeadID   *string `json:"lead_id"`
	Phone    *string `json:"phone"` // of the client or lead, instead of an id
}

// EnsureParties fetches and stores the client and lead from crm if their events have not arrived yet. It must run outside of a
// transaction. It fails with client_not_found, client_forbidden, lead_not_found, lead_forbidden, or Unavailable if crm does not respond.
func (s *Service) EnsureParties(ctx context.Context, p Parties) error {
	if err := s.ensureLead(ctx, p.LeadID); err != nil || p.ClientID == nil {
		return err
	}
	return s.Clients.Ensure(ctx, *lower(p.ClientID))
}

// parties returns the ids of the client and lead, which the caller may see. It fails as EnsureParties does. A number that is none,
// such as that of a hidden caller, is the number of nobody: it is no reason to refuse a recording.
func (s *Service) parties(ctx context.Context, caller identity.Caller, p Parties) (clientID, leadID *string, err error) {
	clientID, leadID = lower(p.ClientID), lower(p.LeadID)
	if leadID != nil {
		if err := s.checkLead(ctx, caller, *leadID); err != nil {
			return nil, nil, err
		}
	}
	if clientID != nil {
		client, err := s.current(ctx, caller, *clientID)
		return &client.ID, leadID, err
	}
	if leadID != nil || p.Phone == nil {
		return nil, leadID, nil
	}
	return s.partyOf(ctx, caller, *p.Phone)
}

// partyOf finds the party with a number: the agent's own client, else a lead that the agent may see.
func (s *Service) partyOf(ctx context.Context, caller identity.Caller, number string) (clientID, leadID *string, err error) {
	e164, ok := s.NormalizePhone(number)
	if !ok {
		return nil, nil, nil
	}
	client, ok, err := s.Phones.FindByPhone(ctx, caller.AgentID, e164)
	switch {
	case err != nil:
		return nil, nil, err
	case ok:
		return &client.ID, nil, nil
	}
	lead, ok, err := s.Leads.FindByPhone(ctx, e164)
	if err != nil || !ok || !lead.maySee(caller) {
		return nil, nil, err
	}
	return nil, &lead.ID, nil
}
