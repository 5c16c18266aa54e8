package demo

import (
	"context"
	"errors"
	"net/http"
)

// lead is the part of a lead that the demo shows.
type lead struct {
	ID              string
	Name            string
	Phone           string
	Status          string
	SourceCampaign  string  `json:"source_campaign"`
	AssignedAgentID *string `json:"assigned_agent_id"`
}

// receiveLead sends a sample lead by the button of the inbox page, which signs it as Pabbly Connect would. On a platform without that
// page, only its owner has the secret.
func (d *demo) receiveLead(ctx context.Context) error {
	var l lead
	var refused *apiError
	err := d.api.post(ctx, "/inbox/lead", map[string]any{}, &l)
	if errors.As(err, &refused) && (refused.Status == http.StatusNotFound || refused.Status == http.StatusForbidden) {
		d.say("  Leads come from your own automations here: sign them with PABBLY_INBOUND_SECRET.\n")
		return nil
	}
	if err != nil {
		return err
	}
	d.lead = l
	d.say("  lead %s, %s, from %q: %s, signed and stored\n", l.Name, l.Phone, l.SourceCampaign, l.Status)
	if l.AssignedAgentID == nil {
		d.say("  nobody works on it yet\n")
		return nil
	}
	var agent struct {
		FullName string `json:"full_name"`
		Email    string
	}
	if err := d.api.get(ctx, "/agents/"+*l.AssignedAgentID, &agent); err != nil {
		return err
	}
	d.say("  it goes to the agent with the fewest open leads: %s (%s)\n", agent.FullName, agent.Email)
	return nil
}
