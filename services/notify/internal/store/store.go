// Package store stores endpoints, deliveries and the copies of agents and clients in PostgreSQL. Nothing here decides anything:
// a change, its events and its job are one transaction, and what they are comes from the domain.
package store

import (
	"embed"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables of notify.
func Migrations() pg.Migrations { return pg.Embedded("notify", files) }

// Agents is the table agents, copies of what auth owns.
func Agents(db *pg.DB) *table.Copies[delivery.Agent] {
	type agent = delivery.Agent
	return table.NewCopies(db, "agents",
		table.Col("id", func(a *agent) any { return &a.ID }),
		table.Col("version", func(a *agent) any { return &a.Version }),
		table.Col("name", func(a *agent) any { return &a.Name }),
		table.Col("email", func(a *agent) any { return &a.Email }))
}

// Clients is the table clients, copies of what crm owns.
func Clients(db *pg.DB) *table.Copies[delivery.Client] {
	type client = delivery.Client
	return table.NewCopies(db, "clients",
		table.Col("id", func(c *client) any { return &c.ID }),
		table.Col("version", func(c *client) any { return &c.Version }),
		table.Col("name", func(c *client) any { return &c.Name }),
		table.Col("phone", func(c *client) any { return &c.Phone }),
		table.Col("email", func(c *client) any { return &c.Email }))
}
