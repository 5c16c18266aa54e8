package store

import (
	"context"
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
	unique[client.Client]
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
	rows := table.New(db, out, table.Spec[c]{
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
	})
	return clients{dependants: erasesClients(db, out), unique: unique[c]{
		Table: rows, db: db, indexes: []string{"clients_email", "clients_phone"}, exists: client.Exists,
		like: `select id::text from clients where agent_id = $1 and id <> $2 and (lower(email) = lower($3) or phone = $4) order by created_at, id limit 1`,
		args: func(c c) []any { return []any{c.AgentID, c.ID, c.Email, c.Phone} },
	}}
}

// List reads a page of clients, newest first.
func (s clients) List(ctx context.Context, f client.Filter) (page.Of[client.Client], error) {
	var w table.Where
	w.If(f.AgentID != "", "agent_id = ?", f.AgentID)
	search(&w, searchedClient, f.Q)
	return s.Table.List(ctx, w, f.Request)
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
