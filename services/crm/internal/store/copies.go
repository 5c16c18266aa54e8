package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

// Calls is the table calls, copies of what calls owns.
type Calls struct{ db *pg.DB }

// NewCalls makes the store.
func NewCalls(db *pg.DB) *Calls { return &Calls{db} }

// Find reads a copy.
func (s *Calls) Find(ctx context.Context, id string) (followup.Call, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, `select id, version, agent_id, client_id, lead_id, status, deleted from calls where id = @id`, pgx.NamedArgs{"id": id})
	if err != nil {
		return followup.Call{}, fmt.Errorf("read the copy of call %s: %w", id, err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[followup.Call])
	switch {
	case pg.NoRows(err):
		return followup.Call{}, followup.CallNotFound()
	case err != nil:
		return followup.Call{}, fmt.Errorf("read the copy of call %s: %w", id, err)
	}
	return c, nil
}

// Change makes or replaces a copy, unless it is as new already.
func (s *Calls) Change(ctx context.Context, c followup.Call) error {
	err := exec(ctx, s.db, `
		insert into calls (id, version, agent_id, client_id, lead_id, status, deleted)
		values (@id, @version, @agent_id, @client_id, @lead_id, @status, @deleted)
		on conflict (id) do update set version = excluded.version, agent_id = excluded.agent_id, client_id = excluded.client_id,
			lead_id = excluded.lead_id, status = excluded.status, deleted = excluded.deleted
		where excluded.version > calls.version`,
		pgx.NamedArgs{"id": c.ID, "version": c.Version, "agent_id": c.AgentID, "client_id": c.ClientID, "lead_id": c.LeadID, "status": c.Status, "deleted": c.Deleted})
	if err != nil {
		return fmt.Errorf("save the copy of call %s: %w", c.ID, err)
	}
	return nil
}

// Agents is the table agents, copies of what auth owns.
type Agents struct{ db *pg.DB }

// NewAgents makes the store.
func NewAgents(db *pg.DB) *Agents { return &Agents{db} }

// Change makes or replaces a copy, unless it is as new already.
func (s *Agents) Change(ctx context.Context, a agent.Agent) error {
	err := exec(ctx, s.db, `
		insert into agents (id, version, name, email, active) values (@id, @version, @name, @email, @active)
		on conflict (id) do update set version = excluded.version, name = excluded.name, email = excluded.email, active = excluded.active
		where excluded.version > agents.version`,
		pgx.NamedArgs{"id": a.ID, "version": a.Version, "name": a.Name, "email": a.Email, "active": a.Active})
	if err != nil {
		return fmt.Errorf("save the copy of agent %s: %w", a.ID, err)
	}
	return nil
}
