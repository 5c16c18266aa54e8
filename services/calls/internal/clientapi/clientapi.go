// Package clientapi asks the crm service about a client.
package clientapi

import (
	"context"

	"github.com/convoflow/convoflow/libs/peer"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Client asks the crm service.
type Client struct{ peer *peer.Client }

// New makes a client.
func New(p *peer.Client) *Client { return &Client{p} }

// Find is GET /clients/{id} with the caller's token. The answer has no version: the copy counts as older than any event.
func (c *Client) Find(ctx context.Context, id string) (call.Client, error) {
	var client struct {
		ID      string `json:"id"`
		AgentID string `json:"agent_id"`
	}
	if err := c.peer.Get(ctx, "/clients/"+id, &client); err != nil {
		return call.Client{}, err
	}
	return call.Client{ID: client.ID, AgentID: client.AgentID}, nil
}
