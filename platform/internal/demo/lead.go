package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"time"
)

const leadTimeout = time.Minute // from the end of the analysis until the lead has changed

// lead is the part of a lead that the demo shows.
type lead struct {
	ID              string
	Name            string
	Phone           string
	Status          string
	StatusReason    *string `json:"status_reason"`
	IntentCategory  string  `json:"intent_category"`
	SourceCampaign  *string `json:"source_campaign"`
	AssignedAgentID *string `json:"assigned_agent_id"`
	LastContactedAt *string `json:"last_contacted_at"`
}

// receiveLead sends a sample lead by the button of the inbox page, which signs it as Pabbly Connect would. On a platform without that
// page, only its owner has the secret. If the lead is not the demo's agent's, the agent adds one of its own, to call it.
func (d *demo) receiveLead(ctx context.Context) error {
	var l lead
	var refused *apiError
	err := d.api.post(ctx, "/inbox/lead", map[string]any{}, &l)
	switch {
	case errors.As(err, &refused) && (refused.Status == http.StatusNotFound || refused.Status == http.StatusForbidden):
		d.say("  Leads come from your own automations here: sign them with PABBLY_INBOUND_SECRET.\n")
		return d.addLead(ctx)
	case err != nil:
		return err
	}
	campaign := ""
	if l.SourceCampaign != nil {
		campaign = *l.SourceCampaign
	}
	d.say("  lead %s, %s, from the campaign %q: signature valid, stored\n", l.Name, l.Phone, campaign)
	if l.AssignedAgentID == nil {
		d.say("  nobody works on it yet\n")
		return d.addLead(ctx)
	}
	var agent struct {
		FullName string `json:"full_name"`
		Email    string
	}
	if err := d.api.get(ctx, "/agents/"+*l.AssignedAgentID, &agent); err != nil {
		return err
	}
	d.say("  it goes to the agent with the fewest open leads: %s (%s)\n", agent.FullName, agent.Email)
	if *l.AssignedAgentID != d.agentID {
		return d.addLead(ctx)
	}
	d.lead = l
	return nil
}

// addLead adds a lead by hand, which belongs to the agent. A lead is one phone number on the whole platform, so it has another one each time.
func (d *demo) addLead(ctx context.Context) error {
	n, err := rand.Int(rand.Reader, big.NewInt(100_000))
	if err != nil {
		return fmt.Errorf("draw a phone number: %w", err)
	}
	if err := d.api.post(ctx, "/leads", map[string]any{"name": "Riya Kapoor", "phone": fmt.Sprintf("+9198201%05d", n)}, &d.lead); err != nil {
		return fmt.Errorf("add a lead: %w", err)
	}
	d.say("  the demo's agent adds one by hand: %s, %s\n", d.lead.Name, d.lead.Phone)
	return nil
}

// awaitMove waits until the lead has the intent of the call. Of a call without one it knows only when it took place.
func (d *demo) awaitMove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leadTimeout)
	defer cancel()
	before, now := d.lead, lead{}
	for {
		if err := d.api.get(ctx, "/leads/"+d.lead.ID, &now); err != nil {
			return err
		}
		if now.LastContactedAt != nil && (d.intent == "" || now.IntentCategory == d.intent) {
			break
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("the lead is still %s, with the intent %s, though that of the call is %q: %w", now.Status, now.IntentCategory, d.intent, err)
		}
	}
	d.lead = now
	d.say("  %s\n    status  %s → %s\n    intent  %s → %s\n", now.Name, before.Status, now.Status, before.IntentCategory, now.IntentCategory)
	if now.StatusReason != nil {
		d.say("    reason  %s\n", *now.StatusReason)
	}
	return nil
}
