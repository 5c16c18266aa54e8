package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Peer asks another service for an object that the caller of ctx may see.
type Peer interface {
	Get(ctx context.Context, path string, into any) error
}

// Clients are the copies of clients, and crm for one that was made a moment ago.
type Clients struct {
	db  *pg.DB
	crm Peer
}

// NewClients makes the copies of the schema db is.
func NewClients(db *pg.DB, crm Peer) *Clients { return &Clients{db: db, crm: crm} }

// Owner returns the agent of a client: from the copy, or from crm when no event told of the client yet. It returns
// client_not_found, client_forbidden, or Unavailable while crm does not answer.
func (s *Clients) Owner(ctx context.Context, clientID string) (string, error) {
	missing := fault.New(fault.NotFound, "client_not_found", "Client not found")
	var agentID string
	var deleted bool
	err := s.db.Conn(ctx).QueryRow(ctx, `select agent_id::text, deleted from clients where id = $1`, clientID).Scan(&agentID, &deleted)
	switch {
	case err == nil && deleted:
		return "", missing
	case err == nil:
		return agentID, nil
	case !errors.Is(err, pgx.ErrNoRows):
		return "", fmt.Errorf("read client %s: %w", clientID, err)
	}
	var client struct {
		AgentID string `json:"agent_id"`
	}
	err = s.crm.Get(ctx, "/clients/"+clientID, &client)
	switch {
	case fault.Is(err, fault.NotFound):
		return "", missing
	case fault.Is(err, fault.Forbidden):
		return "", fault.Wrap(err, fault.Forbidden, "client_forbidden", "This client belongs to another agent")
	case err != nil:
		return "", fmt.Errorf("ask crm for client %s: %w", clientID, err)
	}
	return client.AgentID, nil
}

// Keep updates the copy of a client unless it is newer.
func (s *Clients) Keep(ctx context.Context, c call.Client) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `
		insert into clients (id, agent_id, version, deleted) values ($1, $2, $3, $4)
		on conflict (id) do update set agent_id = excluded.agent_id, version = excluded.version, deleted = excluded.deleted
		where excluded.version > clients.version`, c.ID, c.AgentID, c.Version, c.Deleted)
	if err != nil {
		return fmt.Errorf("keep client %s: %w", c.ID, err)
	}
	return nil
}
