// Package store stores clients, follow-ups and the copies of calls and agents in PostgreSQL. It has no business rules: the
// domain decides what changes. A change and its events are one transaction.
package store

import (
	"context"
	"embed"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations returns the migrations of crm.
func Migrations() pg.Migrations { return pg.Embedded("crm", files) }

// Calls is the table calls: copies of the calls that calls owns.
func Calls(db *pg.DB) *table.Copies[followup.Call] {
	type call = followup.Call
	record := func(ctx context.Context, changes []table.Change[call]) error {
		return recordDeltas(ctx, db, changes, analytics.OfCall)
	}
	return table.NewCopies(db, "calls", func(c *call) table.Columns {
		return table.Columns{
			table.Col("id", &c.ID), table.Col("version", &c.Version), table.Col("agent_id", &c.AgentID), table.Col("client_id", &c.ClientID),
			table.Col("lead_id", &c.LeadID), table.Col("status", &c.Status), table.Col("deleted", &c.Deleted),
			table.Col("called_at", &c.CalledAt), table.Col("duration_seconds", &c.DurationSeconds), table.Col("sentiment", &c.Sentiment),
			table.Col("key_topics", &c.KeyTopics), table.Col("objections", &c.Objections), table.Col("talk", &c.Talk),
		}
	}).Recorded(record)
}

// Agents is the table agents: copies of the agents that auth owns.
func Agents(db *pg.DB) *table.Copies[agent.Agent] {
	type rep = agent.Agent
	return table.NewCopies(db, "agents", func(a *rep) table.Columns {
		return table.Columns{
			table.Col("id", &a.ID), table.Col("version", &a.Version), table.Col("name", &a.Name), table.Col("email", &a.Email),
			table.Col("active", &a.Active),
		}
	})
}
