// Package store stores calls, their transcripts, erasures and the copies of clients and leads in PostgreSQL. It has no business rules:
// the domain decides what changes. A change, its events and its job are one transaction.
package store

import (
	"context"
	"embed"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations returns the migrations of calls.
func Migrations() pg.Migrations { return pg.Embedded("calls", files) }

// Clients is the table clients: copies of the clients that crm owns.
func Clients(db *pg.DB) Copies {
	return Copies{table.NewCopies(db, "clients", clientColumns), table.New(db, nil, table.Spec[call.Client]{Name: "clients", Columns: clientColumns, Missing: missing})}
}

// Copies implements copies.Store and call.Phones.
type Copies struct {
	*table.Copies[call.Client]
	rows *table.Table[call.Client]
}

func clientColumns(c *call.Client) table.Columns {
	return table.Columns{
		table.Col("id", &c.ID), table.Col("version", &c.Version), table.Col("agent_id", &c.AgentID), table.Col("phone", &c.Phone),
		table.Col("deleted", &c.Deleted), table.Col("merged_into", &c.MergedInto),
	}
}

// FindByPhone reads an agent's client with that number.
func (c Copies) FindByPhone(ctx context.Context, agentID, phone string) (call.Client, bool, error) {
	var w table.Where
	w.And("agent_id = ?", agentID)
	w.And("phone = ?", phone)
	w.And("not deleted")
	return first(c.rows.Query(ctx, w, "limit 1"))
}

// Leads is the table leads: copies of the leads that crm owns.
func Leads(db *pg.DB) call.Leads {
	return leads{table.NewCopies(db, "leads", leadColumns), table.New(db, nil, table.Spec[call.Lead]{Name: "leads", Columns: leadColumns, Missing: missing})}
}

type leads struct {
	*table.Copies[call.Lead]
	rows *table.Table[call.Lead]
}

func leadColumns(l *call.Lead) table.Columns {
	return table.Columns{
		table.Col("id", &l.ID), table.Col("version", &l.Version), table.Col("agent_id", &l.AgentID), table.Col("phone", &l.Phone),
		table.Col("deleted", &l.Deleted),
	}
}

// FindByPhone reads the lead with that number. While events are on their way two copies may have it; then the newest lead is meant.
func (l leads) FindByPhone(ctx context.Context, phone string) (call.Lead, bool, error) {
	var w table.Where
	w.And("phone = ?", phone)
	w.And("not deleted")
	return first(l.rows.Query(ctx, w, "order by id desc limit 1"))
}

func missing() error { return pgx.ErrNoRows }

func first[T any](found []T, err error) (one T, ok bool, _ error) {
	if err != nil || len(found) == 0 {
		return one, false, err
	}
	return found[0], true, nil
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

// Waveforms reads the table waveforms.
func Waveforms(db *pg.DB) call.Waveforms {
	return table.New(db, nil, table.Spec[call.Waveform]{
		Name: "waveforms",
		Columns: func(w *call.Waveform) table.Columns {
			return table.Columns{
				table.Fixed("call_id", &w.CallID), table.Fixed("channels", &w.Channels), table.Joined("coalesce(1000.0 / peak_ms, peaks_per_second)::float8", &w.PeaksPerSecond),
				table.Fixed("peaks", &w.Peaks),
			}
		},
		Missing: call.WaveformNotFound,
	})
}
