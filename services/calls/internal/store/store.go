// Package store stores calls, their transcripts, erasures and the copies of clients in PostgreSQL. It has no business rules:
// the domain decides what changes. A change, its events and its job are one transaction.
package store

import (
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/store/migrations"
)

// Migrations returns the migrations of calls.
func Migrations() pg.Migrations { return pg.Migrations{Name: "calls", FS: migrations.Files} }

// Clients is the table clients: copies of the clients that crm owns.
func Clients(db *pg.DB) *table.Copies[call.Client] {
	type client = call.Client
	return table.NewCopies(db, "clients", func(c *client) table.Columns {
		return table.Columns{
			table.Col("id", &c.ID), table.Col("version", &c.Version), table.Col("agent_id", &c.AgentID), table.Col("deleted", &c.Deleted),
			table.Col("merged_into", &c.MergedInto),
		}
	})
}

// Revisions reads the versions of the table calls.
func Revisions(db *pg.DB) call.Revisions {
	type revision = call.Revision
	return table.New(db, nil, table.Spec[revision]{
		Name: "calls",
		Columns: func(r *revision) table.Columns {
			return table.Columns{
				table.Fixed("id", &r.ID), table.Fixed("agent_id", &r.AgentID), table.Fixed("version", &r.Version),
			}
		},
		Missing: call.NotFound,
	})
}
