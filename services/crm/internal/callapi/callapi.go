// Package callapi asks the calls service about a call.
package callapi

import (
	"context"

	"github.com/convoflow/convoflow/libs/peer"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

// Client asks the calls service.
type Client struct{ peer *peer.Client }

// New makes a client.
func New(p *peer.Client) *Client { return &Client{p} }

// Find is GET /calls/{id} with the caller's token. The answer has no version: the copy counts as older than any event.
func (c *Client) Find(ctx context.Context, id string) (followup.Call, error) {
	var call struct {
		ID       string  `json:"id"`
		AgentID  string  `json:"agent_id"`
		ClientID *string `json:"client_id"`
		LeadID   *string `json:"lead_id"`
		Status   string  `json:"status"`
	}
	if err := c.peer.Get(ctx, "/calls/"+id, &call); err != nil {
		return followup.Call{}, err
	}
	return followup.Call{ID: call.ID, AgentID: call.AgentID, ClientID: call.ClientID, LeadID: call.LeadID, Status: call.Status}, nil
}
