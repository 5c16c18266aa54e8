package store

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// agents implements agent.Agents on the table agents. A deleted agent has a row as long as its e-mail remains taken.
type agents struct {
	*table.Table[agent.Agent]
	db *pg.DB
}

// Agents returns the store of agents.
func Agents(db *pg.DB, out *outbox.Outbox) agent.Agents {
	return agents{db: db, Table: table.New(db, out, table.Spec[agent.Agent]{
		Name:    "agents",
		Columns: agentColumns,
		Order:   table.Newest(func(a agent.Agent) time.Time { return a.CreatedAt }, func(a agent.Agent) string { return a.ID }),
		Missing: agent.NotFound,
		Save: func(ctx context.Context, before, after *agent.Agent) error {
			if before == nil {
				return nil
			}
			if before.IsActive != after.IsActive {
				if err := revoke(ctx, db, after.Version, !after.IsActive, after.ID); err != nil {
					return err
				}
			}
			if before.IsActiveAdmin() && !after.IsActiveAdmin() {
				return requireAdmin(ctx, db)
			}
			return nil
		},
	})}
}

func agentColumns(a *agent.Agent) table.Columns {
	return table.Columns{
		table.Fixed("id", &a.ID), table.Col("version", &a.Version), table.Col("email", &a.Email),
		table.Col("password_hash", &a.PasswordHash), table.Col("password_set_at", &a.PasswordSetAt),
		table.Col("full_name", &a.FullName), table.Col("role", &a.Role), table.Col("is_active", &a.IsActive),
		table.Fixed("created_at", &a.CreatedAt), table.Col("updated_at", &a.UpdatedAt), table.Col("deleted_at", &a.DeletedAt),
	}
}

// requireAdmin returns the fault LastAdmin if the transaction leaves no active admin. Concurrent transactions that remove an
// admin are serialized: each locks the single row of founding.
func requireAdmin(ctx context.Context, db *pg.DB) error {
	conn := db.Conn(ctx)
	if _, err := conn.Exec(ctx, `select done from founding for update`); err != nil {
		return fmt.Errorf("lock the admins: %w", err)
	}
	var left bool
	if err := conn.QueryRow(ctx, `select exists (select from agents where role = 'admin' and is_active)`).Scan(&left); err != nil {
		return fmt.Errorf("look for another admin: %w", err)
	}
	if !left {
		return agent.LastAdmin()
	}
	return nil
}

// emailTaken converts a violation of the unique e-mail to the fault EmailTaken.
func emailTaken(err error) error {
	if pg.Unique(err, "agents_email_key") {
		return agent.EmailTaken()
	}
	return err
}

// Create writes a new agent with its events. The agent is the first if no other was ever created; concurrent first creations
// wait for its transaction.
func (s agents) Create(ctx context.Context, fn func(first bool) (agent.Agent, []event.Event)) (a agent.Agent, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		first, err := s.db.Conn(ctx).Exec(ctx, `insert into founding (done) values (true) on conflict do nothing`)
		if err != nil {
			return fmt.Errorf("look for the first agent: %w", err)
		}
		var events []event.Event
		a, events = fn(first.RowsAffected() == 1)
		_, err = s.Table.Create(ctx, &a, "", events...)
		return emailTaken(err)
	})
	return a, err
}

// EverCreated reads whether an agent was ever created.
func (s agents) EverCreated(ctx context.Context) (created bool, err error) {
	if err = s.db.Conn(ctx).QueryRow(ctx, `select exists (select from founding)`).Scan(&created); err != nil {
		return false, fmt.Errorf("look for the first agent: %w", pg.Classify(err))
	}
	return created, nil
}

// Find reads an agent.
func (s agents) Find(ctx context.Context, id string) (agent.Agent, error) {
	w := existing()
	w.And("id = ?", id)
	return s.FindWhere(ctx, w)
}

// FindByEmail reads the agent with that address, in lower case.
func (s agents) FindByEmail(ctx context.Context, email string) (agent.Agent, error) {
	w := existing()
	w.And("email = ?", email)
	return s.FindWhere(ctx, w)
}

// existing excludes deleted agents.
func existing() (w table.Where) {
	w.And("deleted_at is null")
	return w
}

// List reads a page of agents, newest first.
func (s agents) List(ctx context.Context, r agent.ListRequest) (page.Of[agent.Agent], error) {
	w, q := existing(), table.Like(r.Q)
	w.If(r.Q != "", "full_name ilike ? or email ilike ?", q, q)
	w.If(r.Role != "", "role = ?", r.Role)
	w.If(r.IsActive != nil, "is_active = ?", r.IsActive)
	return s.Table.List(ctx, w, r.Request)
}

// Change changes an agent.
func (s agents) Change(ctx context.Context, id string, fn func(*agent.Agent) ([]event.Event, error)) (agent.Agent, error) {
	a, err := s.Table.Change(ctx, id, func(a *agent.Agent) ([]event.Event, error) {
		if a.DeletedAt != nil {
			return nil, agent.NotFound()
		}
		return fn(a)
	})
	return a, emailTaken(err)
}
