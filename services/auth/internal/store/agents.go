package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// Agents is the table agents.
type Agents struct {
	db  *pg.DB
	out *outbox.Outbox
}

// NewAgents makes the store of the agents in db.
func NewAgents(db *pg.DB, out *outbox.Outbox) *Agents { return &Agents{db, out} }

const agentColumns = `id, version, email, password_hash, full_name, role, is_active, created_at, updated_at`

func scanAgent(row pgx.Row) (a agent.Agent, err error) {
	err = row.Scan(&a.ID, &a.Version, &a.Email, &a.PasswordHash, &a.FullName, &a.Role, &a.IsActive, &a.CreatedAt, &a.UpdatedAt)
	if pg.NoRows(err) {
		return agent.Agent{}, fault.New(fault.NotFound, "agent_not_found", "Agent not found")
	}
	a.CreatedAt, a.UpdatedAt = a.CreatedAt.UTC(), a.UpdatedAt.UTC()
	return a, err
}

// Create keeps a new agent and its events. It is the first when no other one was ever created; of several at the same time
// the others wait until it is certain.
func (s *Agents) Create(ctx context.Context, register func(first bool) (agent.Agent, []contract.Event)) (a agent.Agent, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		conn := s.db.Conn(ctx)
		founded, err := conn.Exec(ctx, `insert into founding (done) values (true) on conflict do nothing`)
		if err != nil {
			return fmt.Errorf("look for the first agent: %w", err)
		}
		var events []contract.Event
		a, events = register(founded.RowsAffected() == 1)
		_, err = conn.Exec(ctx, `insert into agents (`+agentColumns+`) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			a.ID, a.Version, a.Email, a.PasswordHash, a.FullName, a.Role, a.IsActive, a.CreatedAt, a.UpdatedAt)
		if pg.Unique(err, "agents_email_key") {
			return fault.New(fault.Conflict, "email_taken", "This e-mail address is registered already: log in")
		}
		if err != nil {
			return fmt.Errorf("insert agent %s: %w", a.ID, err)
		}
		return s.out.Append(ctx, events...)
	})
	if err != nil {
		return agent.Agent{}, err
	}
	return a, nil
}

// Find returns an agent, or the NotFound fault agent_not_found.
func (s *Agents) Find(ctx context.Context, id string) (agent.Agent, error) {
	a, err := scanAgent(s.db.Conn(ctx).QueryRow(ctx, `select `+agentColumns+` from agents where id = $1`, id))
	if err != nil {
		return a, fmt.Errorf("read agent %s: %w", id, err)
	}
	return a, nil
}

// FindByEmail returns the agent with that address in lower case, or the NotFound fault agent_not_found.
func (s *Agents) FindByEmail(ctx context.Context, email string) (agent.Agent, error) {
	a, err := scanAgent(s.db.Conn(ctx).QueryRow(ctx, `select `+agentColumns+` from agents where email = $1`, email))
	if err != nil {
		return a, fmt.Errorf("read an agent by e-mail: %w", err)
	}
	return a, nil
}

// Change lets fn change an agent under a lock and saves it with the events that fn returns.
func (s *Agents) Change(ctx context.Context, id string, fn func(*agent.Agent) ([]contract.Event, error)) (a agent.Agent, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		conn := s.db.Conn(ctx)
		a, err = scanAgent(conn.QueryRow(ctx, `select `+agentColumns+` from agents where id = $1 for update`, id))
		if err != nil {
			return fmt.Errorf("read agent %s: %w", id, err)
		}
		events, err := fn(&a)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, `update agents set version = $2, email = $3, password_hash = $4, full_name = $5, role = $6, is_active = $7, updated_at = $8 where id = $1`,
			id, a.Version, a.Email, a.PasswordHash, a.FullName, a.Role, a.IsActive, a.UpdatedAt)
		if err != nil {
			return fmt.Errorf("save agent %s: %w", id, err)
		}
		return s.out.Append(ctx, events...)
	})
	if err != nil {
		return agent.Agent{}, err
	}
	return a, nil
}
