package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
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

const agentColumns = `id, version, email, password_hash, password_set_at, full_name, role, is_active, created_at, updated_at`

func agentFields(a *agent.Agent) []any {
	return []any{&a.ID, &a.Version, &a.Email, &a.PasswordHash, &a.PasswordSetAt, &a.FullName, &a.Role, &a.IsActive, &a.CreatedAt, &a.UpdatedAt}
}

func scanAgent(row pgx.Row) (a agent.Agent, err error) {
	err = row.Scan(agentFields(&a)...)
	if pg.NoRows(err) {
		return agent.Agent{}, fault.New(fault.NotFound, "agent_not_found", "Agent not found")
	}
	return a, err
}

// emailTaken turns the violation of the unique e-mail into a fault.
func emailTaken(err error) error {
	if pg.Unique(err, "agents_email_key") {
		return fault.New(fault.Conflict, "email_taken", "This e-mail address is registered already")
	}
	return err
}

// Create keeps a new agent and its events. It is the first when no other one was ever created; of several at the same time
// the others wait until it is certain.
func (s *Agents) Create(ctx context.Context, fn func(first bool) (agent.Agent, []event.Event)) (a agent.Agent, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		conn := s.db.Conn(ctx)
		founded, err := conn.Exec(ctx, `insert into founding (done) values (true) on conflict do nothing`)
		if err != nil {
			return fmt.Errorf("look for the first agent: %w", err)
		}
		var events []event.Event
		a, events = fn(founded.RowsAffected() == 1)
		_, err = conn.Exec(ctx, `insert into agents (`+agentColumns+`) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			a.ID, a.Version, a.Email, a.PasswordHash, a.PasswordSetAt, a.FullName, a.Role, a.IsActive, a.CreatedAt, a.UpdatedAt)
		if err != nil {
			return fmt.Errorf("insert agent %s: %w", a.ID, emailTaken(err))
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

// List returns a page of agents, newest first.
func (s *Agents) List(ctx context.Context, f agent.Filter) (agent.Page, error) {
	args := pgx.NamedArgs{"q": f.Q, "role": string(f.Role), "is_active": f.IsActive}
	items, next, err := list(ctx, s.db, `
		select `+agentColumns+` from agents
		where (@q = '' or position(lower(@q) in lower(full_name)) > 0 or position(lower(@q) in email) > 0)
			and (@role = '' or role = @role) and (@is_active::boolean is null or is_active = @is_active)`,
		args, f.Limit, f.Skip, f.Cursor, scanAgent,
		func(a agent.Agent) pg.Cursor { return pg.Cursor{At: a.CreatedAt, ID: a.ID} })
	if err != nil {
		return agent.Page{}, fmt.Errorf("list agents: %w", err)
	}
	return agent.Page{Items: items, Next: next}, nil
}

// Change lets fn change an agent under a lock and saves it with the events that fn returns.
func (s *Agents) Change(ctx context.Context, id string, fn func(*agent.Agent) ([]event.Event, error)) (a agent.Agent, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		conn := s.db.Conn(ctx)
		a, err = scanAgent(conn.QueryRow(ctx, `select `+agentColumns+` from agents where id = $1 for no key update`, id))
		if err != nil {
			return fmt.Errorf("read agent %s: %w", id, err)
		}
		before := a
		events, err := fn(&a)
		if err != nil {
			return err
		}
		if leads(before) && !leads(a) {
			if err := s.keepOneAdmin(ctx, id); err != nil {
				return err
			}
		}
		_, err = conn.Exec(ctx, `
			update agents set version = $2, email = $3, password_hash = $4, password_set_at = $5, full_name = $6, role = $7, is_active = $8, updated_at = $9
			where id = $1`,
			id, a.Version, a.Email, a.PasswordHash, a.PasswordSetAt, a.FullName, a.Role, a.IsActive, a.UpdatedAt)
		if err != nil {
			return fmt.Errorf("save agent %s: %w", id, emailTaken(err))
		}
		return s.out.Append(ctx, events...)
	})
	if err != nil {
		return agent.Agent{}, err
	}
	return a, nil
}

func leads(a agent.Agent) bool { return a.IsActive && a.Role == identity.Admin }

// keepOneAdmin refuses to let the last active admin go. Two that go at the same time go one after the other: there is one row
// in founding, and both lock it.
func (s *Agents) keepOneAdmin(ctx context.Context, id string) error {
	conn := s.db.Conn(ctx)
	if _, err := conn.Exec(ctx, `select done from founding for update`); err != nil {
		return fmt.Errorf("lock the admins: %w", err)
	}
	var another bool
	err := conn.QueryRow(ctx, `select exists (select from agents where role = 'admin' and is_active and id <> $1)`, id).Scan(&another)
	if err != nil {
		return fmt.Errorf("look for another admin: %w", err)
	}
	if !another {
		return fault.New(fault.Conflict, "last_admin", "This is the only active admin: make another one first")
	}
	return nil
}
