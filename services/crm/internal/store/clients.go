package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/crm/internal/client"
)

// Clients is the table clients.
type Clients struct{ table[client.Client] }

// NewClients makes the store.
func NewClients(db *pg.DB, out *outbox.Outbox) *Clients {
	return &Clients{table[client.Client]{
		db: db, out: out, name: "clients",
		columns:  "id, agent_id, name, email, phone, company, notes, version, created_at, updated_at",
		order:    "created_at desc, id desc",
		after:    "(created_at, id) < (@at, @after)",
		position: func(c client.Client) pg.Cursor { return pg.Cursor{At: c.CreatedAt, ID: c.ID} },
		utc:      func(c *client.Client) { c.CreatedAt, c.UpdatedAt = c.CreatedAt.UTC(), c.UpdatedAt.UTC() },
		missing:  client.NotFound,
	}}
}

func clientArgs(c client.Client) pgx.NamedArgs {
	return pgx.NamedArgs{
		"id": c.ID, "agent_id": c.AgentID, "name": c.Name, "email": c.Email, "phone": c.Phone, "company": c.Company, "notes": c.Notes,
		"version": c.Version, "created_at": c.CreatedAt, "updated_at": c.UpdatedAt,
	}
}

// attempts is how often a write is tried when the client in its way has been deleted before it could be named.
const attempts = 3

// Create saves a client with its events.
func (s *Clients) Create(ctx context.Context, c client.Client, events ...contract.Event) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		for range attempts {
			// A conflict must not end the transaction: it may be the one that keeps an Idempotency-Key.
			tag, err := s.db.Conn(ctx).Exec(ctx, `
				insert into clients (id, agent_id, name, email, phone, company, notes, version, created_at, updated_at)
				values (@id, @agent_id, @name, @email, @phone, @company, @notes, @version, @created_at, @updated_at)
				on conflict do nothing`, clientArgs(c))
			if err != nil {
				return fmt.Errorf("insert client %s: %w", c.ID, err)
			}
			if tag.RowsAffected() == 1 {
				return s.out.Append(ctx, events...)
			}
			if err := s.taken(ctx, c); err != nil {
				return err
			}
		}
		return fmt.Errorf("insert client %s: what is in the way cannot be found", c.ID)
	})
}

// taken is the fault client.Exists when another client of the agent has the e-mail or phone of c.
func (s *Clients) taken(ctx context.Context, c client.Client) error {
	var first string
	err := s.db.Conn(ctx).QueryRow(ctx, `
		select id::text from clients where agent_id = @agent_id and id <> @id and (lower(email) = lower(@email) or phone = @phone)
		order by created_at, id limit 1`, clientArgs(c)).Scan(&first)
	switch {
	case pg.NoRows(err):
		return nil
	case err != nil:
		return fmt.Errorf("look for a client like %s: %w", c.ID, err)
	default:
		return client.Exists(first)
	}
}

// Find reads a client.
func (s *Clients) Find(ctx context.Context, id string) (client.Client, error) {
	return s.find(ctx, id, "")
}

// List reads a page of clients, newest first.
func (s *Clients) List(ctx context.Context, f client.Filter) (client.Page, error) {
	c := none()
	if f.AgentID != "" {
		c.add("agent_id = @agent_id", "agent_id", f.AgentID)
	}
	if f.Q != "" {
		c.add("name ilike @q or company ilike @q or email ilike @q or phone ilike @q", "q", "%"+literal(f.Q)+"%")
	}
	items, next, err := s.list(ctx, c, f.Limit, f.Skip, f.Cursor)
	return client.Page{Items: items, Next: next}, err
}

// literal takes the meaning from what LIKE would take for a wildcard.
func literal(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
}

// Change changes a client.
func (s *Clients) Change(ctx context.Context, id string, fn func(*client.Client) ([]contract.Event, error)) (c client.Client, err error) {
	for range attempts {
		c, err = s.alter(ctx, id, fn, s.update)
		if !pg.Unique(err, "clients_email") && !pg.Unique(err, "clients_phone") {
			break
		}
		if taken := s.taken(ctx, c); taken != nil {
			return client.Client{}, taken
		}
	}
	return c, err
}

func (s *Clients) update(ctx context.Context, c client.Client) error {
	return exec(ctx, s.db, `
		update clients set name = @name, email = @email, phone = @phone, company = @company, notes = @notes, version = @version, updated_at = @updated_at
		where id = @id`, clientArgs(c))
}

// Remove deletes a client. The foreign key takes it out of its follow-ups.
func (s *Clients) Remove(ctx context.Context, id string, fn func(*client.Client) ([]contract.Event, error)) error {
	return s.remove(ctx, id, fn)
}
