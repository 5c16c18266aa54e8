// Package store stores endpoints, deliveries and the copies of agents, clients and leads in PostgreSQL. It has no business rules: the
// domain decides what changes. A change, its events and its job are one transaction.
package store

import (
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/store/migrations"
)

// Migrations returns the migrations of notify.
func Migrations() pg.Migrations { return pg.Migrations{Name: "notify", FS: migrations.Files} }

// Agents is the table agents: copies of the agents that auth owns.
func Agents(db *pg.DB) *table.Copies[delivery.Agent] {
	type agent = delivery.Agent
	return table.NewCopies(db, "agents", func(a *agent) table.Columns {
		return table.Columns{
			table.Col("id", &a.ID), table.Col("version", &a.Version), table.Col("name", &a.Name), table.Col("email", &a.Email),
		}
	})
}

// Clients is the table clients: copies of the clients that crm owns.
func Clients(db *pg.DB) *table.Copies[delivery.Client] {
	type client = delivery.Client
	return table.NewCopies(db, "clients", func(c *client) table.Columns {
		return table.Columns{
			table.Col("id", &c.ID), table.Col("version", &c.Version), table.Col("name", &c.Name), table.Col("phone", &c.Phone),
			table.Col("email", &c.Email),
		}
	})
}

// Leads is the table leads: copies of the leads that crm owns.
func Leads(db *pg.DB) *table.Copies[delivery.Lead] {
	type lead = delivery.Lead
	return table.NewCopies(db, "leads", func(l *lead) table.Columns {
		return table.Columns{table.Col("id", &l.ID), table.Col("version", &l.Version), table.Col("name", &l.Name), table.Col("phone", &l.Phone)}
	})
}
