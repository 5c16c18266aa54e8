// Package store stores clients, follow-ups and the copies of calls and agents in PostgreSQL. Nothing here decides anything:
// a change and its events are one transaction, and what they are comes from the domain.
package store

import (
	"embed"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables of crm.
func Migrations() pg.Migrations { return pg.Embedded("crm", files) }

// Calls is the table calls, copies of what calls owns.
func Calls(db *pg.DB) *table.Copies[followup.Call] {
	type call = followup.Call
	return table.NewCopies(db, "calls",
		table.Col("id", func(c *call) any { return &c.ID }),
		table.Col("version", func(c *call) any { return &c.Version }),
		table.Col("agent_id", func(c *call) any { return &c.AgentID }),
		table.Col("client_id", func(c *call) any { return &c.ClientID }),
		table.Col("lead_id", func(c *call) any { return &c.LeadID }),
		table.Col("status", func(c *call) any { return &c.Status }),
		table.Col("deleted", func(c *call) any { return &c.Deleted }))
}

// Agents is the table agents, copies of what auth owns.
func Agents(db *pg.DB) *table.Copies[agent.Agent] {
	type rep = agent.Agent
	return table.NewCopies(db, "agents",
		table.Col("id", func(a *rep) any { return &a.ID }),
		table.Col("version", func(a *rep) any { return &a.Version }),
		table.Col("name", func(a *rep) any { return &a.Name }),
		table.Col("email", func(a *rep) any { return &a.Email }),
		table.Col("active", func(a *rep) any { return &a.Active }))
}
