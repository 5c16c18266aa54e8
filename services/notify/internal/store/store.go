// Package store stores endpoints, deliveries and the copies of agents, clients and leads in PostgreSQL. It has no business rules: the
// domain decides what changes. A change, its events and its job are one transaction.
package store

import (
	"context"
	"embed"
	"fmt"

	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations returns the migrations of notify.
func Migrations() pg.Migrations { return pg.Embedded("notify", files) }

// Agents is the table agents: copies of the agents that auth owns.
func Agents(db *pg.DB) *table.Copies[delivery.Agent] {
	type agent = delivery.Agent
	return table.NewCopies(db, "agents", func(a *agent) table.Columns {
		return table.Columns{
			table.Col("id", &a.ID), table.Col("version", &a.Version), table.Col("name", &a.Name), table.Col("email", &a.Email),
		}
	})
}

// clients are the copies of the clients that crm owns.
type clients struct {
	*table.Copies[delivery.Client]
	db *pg.DB
}

// Find reads a copy. In a transaction it prevents the erasure of the client until the transaction ends.
func (s clients) Find(ctx context.Context, id string) (c delivery.Client, ok bool, err error) {
	if s.db.Tx(ctx) != nil {
		if _, err := s.db.Conn(ctx).Exec(ctx, `select from clients where id = $1 for share`, id); err != nil {
			return c, false, fmt.Errorf("lock the copy of client %s: %w", id, pg.Classify(err))
		}
	}
	return s.Copies.Find(ctx, id)
}

// Clients is the table clients: copies of the clients that crm owns.
func Clients(db *pg.DB) copies.Store[delivery.Client] {
	type client = delivery.Client
	return clients{db: db, Copies: table.NewCopies(db, "clients", func(c *client) table.Columns {
		return table.Columns{
			table.Col("id", &c.ID), table.Col("version", &c.Version), table.Col("name", &c.Name), table.Col("phone", &c.Phone),
			table.Col("email", &c.Email), table.Col("merged_into", &c.MergedInto),
		}
	})}
}

// Leads is the table leads: copies of the leads that crm owns.
func Leads(db *pg.DB) *table.Copies[delivery.Lead] {
	type lead = delivery.Lead
	return table.NewCopies(db, "leads", func(l *lead) table.Columns {
		return table.Columns{table.Col("id", &l.ID), table.Col("version", &l.Version), table.Col("name", &l.Name), table.Col("phone", &l.Phone)}
	})
}
