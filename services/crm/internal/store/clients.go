package store

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/crm/internal/client"
	"github.com/convoflow/convoflow/services/crm/internal/erasure"
	"github.com/convoflow/convoflow/services/crm/internal/timeline"
)

// clients implements client.Store on the table clients.
type clients struct {
	*table.Table[client.Client]
	db         *pg.DB
	dependants erasure.Eraser
}

// Clients returns the store of clients.
func Clients(db *pg.DB, out *outbox.Outbox) client.Store {
	type c = client.Client
	timelines := newItems(db)
	columns := func(c *c) table.Columns {
		return table.Columns{
			table.Fixed("id", &c.ID), table.Fixed("agent_id", &c.AgentID), table.Col("name", &c.Name), table.Col("email", &c.Email),
			table.Col("phone", &c.Phone), table.Col("company", &c.Company), table.Col("notes", &c.Notes), table.Col("version", &c.Version),
			table.Fixed("created_at", &c.CreatedAt), table.Col("updated_at", &c.UpdatedAt),
		}
	}
	return clients{db: db, dependants: erasesClients(db, out), Table: table.New(db, out, table.Spec[c]{
		Name:    "clients",
		Columns: columns,
		Order:   table.Newest(func(c c) time.Time { return c.CreatedAt }, func(c c) string { return c.ID }),
		Missing: client.NotFound,
		Save: func(ctx context.Context, before, after *c) error {
			change := timeline.Item{At: after.UpdatedAt, ClientID: &after.ID, Event: new(events.ClientCreated.Name)}
			if before != nil {
				change.Event, change.Fields = new(events.ClientUpdated.Name), changedFields(columns(before), columns(after))
			}
			return timelines.record(ctx, change)
		},
	})}
}

// attempts is how often a write is tried whose conflicting client is deleted before it can be read.
const attempts = 3

// Create writes a client with its events.
func (s clients) Create(ctx context.Context, c client.Client, events ...event.Event) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		for range attempts {
			// A conflict must not abort the transaction: it may also store an Idempotency-Key.
			created, err := s.Table.Create(ctx, &c, "on conflict do nothing", events...)
			if err != nil || created {
				return err
			}
			if err := s.taken(ctx, c); err != nil {
				return err
			}
		}
		return fmt.Errorf("insert client %s: the conflicting client cannot be found", c.ID)
	})
}

// taken returns the fault client.Exists if another client of the agent has the e-mail or phone of c.
func (s clients) taken(ctx context.Context, c client.Client) error {
	var first string
	err := s.db.Conn(ctx).QueryRow(ctx, `
		select id::text from clients where agent_id = $1 and id <> $2 and (lower(email) = lower($3) or phone = $4)
		order by created_at, id limit 1`, c.AgentID, c.ID, c.Email, c.Phone).Scan(&first)
	switch {
	case pg.NoRows(err):
		return nil
	case err != nil:
		return fmt.Errorf("look for a client like %s: %w", c.ID, err)
	default:
		return client.Exists(first)
	}
}

// List reads a page of clients, newest first.
func (s clients) List(ctx context.Context, f client.Filter) (page.Of[client.Client], error) {
	var w table.Where
	w.If(f.AgentID != "", "agent_id = ?", f.AgentID)
	search(&w, searchedClient, f.Q)
	return s.Table.List(ctx, w, f.Request)
}

// Change changes a client.
func (s clients) Change(ctx context.Context, id string, fn func(*client.Client) ([]event.Event, error)) (c client.Client, err error) {
	for range attempts {
		c, err = s.Table.Change(ctx, id, fn)
		if !pg.Unique(err, "clients_email") && !pg.Unique(err, "clients_phone") {
			break
		}
		if taken := s.taken(ctx, c); taken != nil {
			return client.Client{}, taken
		}
	}
	return c, err
}

// Remove deletes a client with everything that refers to it.
func (s clients) Remove(ctx context.Context, id string, fn func(*client.Client) ([]event.Event, error)) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		return s.Table.Remove(ctx, id, func(c *client.Client) ([]event.Event, error) {
			events, err := fn(c)
			if err != nil {
				return nil, err
			}
			return events, s.dependants.Remove(ctx, id, c.Version)
		})
	})
}
