package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/crm/internal/erasure"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

// erasures implements erasure.Store on the tables erasures and erasure_confirmations.
type erasures struct {
	*table.Table[erasure.Erasure]
	db *pg.DB
}

// Erasures returns the store of erasures.
func Erasures(db *pg.DB, out *outbox.Outbox) erasure.Store {
	type e = erasure.Erasure
	return erasures{db: db, Table: table.New(db, out, table.Spec[e]{
		Name: "erasures",
		Columns: func(e *e) table.Columns {
			return table.Columns{
				table.Fixed("id", &e.ID), table.Fixed("kind", &e.Kind), table.Fixed("subject_id", &e.SubjectID),
				table.Fixed("subject_version", &e.SubjectVersion), table.Fixed("requested_by", &e.RequestedBy),
				table.Fixed("requested_at", &e.RequestedAt), table.Col("closed", &e.Closed),
			}
		},
		Missing: erasure.NotFound,
	})}
}

// CreateAll writes erasures with their events, except those that exist.
func (s erasures) CreateAll(ctx context.Context, all []erasure.Erasure, eventsOf func(*erasure.Erasure) []event.Event) error {
	_, err := s.Table.CreateAll(ctx, all, eventsOf)
	return err
}

// Find reads an erasure with its confirmations.
func (s erasures) Find(ctx context.Context, id string) (erasure.Erasure, error) {
	e, err := s.Table.Find(ctx, id)
	if err != nil {
		return e, err
	}
	if e.Confirmed, err = s.confirmations(ctx, id); err != nil {
		return e, err
	}
	e.Waiting, err = s.waits(ctx, id)
	return e, err
}

func (s erasures) confirmations(ctx context.Context, id string) (map[string]time.Time, error) {
	confirmed, err := byService[time.Time](ctx, s.db, `select service, done_at from erasure_confirmations where erasure_id = $1`, id)
	for service, at := range confirmed {
		confirmed[service] = at.UTC()
	}
	return confirmed, err
}

func (s erasures) waits(ctx context.Context, id string) (map[string]string, error) {
	return byService[string](ctx, s.db, `select service, reason from erasure_waits where erasure_id = $1`, id)
}

// byService reads what each service has said about an erasure.
func byService[T any](ctx context.Context, db *pg.DB, query, id string) (map[string]T, error) {
	said := map[string]T{}
	rows, err := db.Conn(ctx).Query(ctx, query, id)
	if err == nil {
		var service string
		var value T
		_, err = pgx.ForEachRow(rows, []any{&service, &value}, func() error {
			said[service] = value
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read what services said about erasure %s: %w", id, pg.Classify(err))
	}
	return said, nil
}

// erasureWaits implements erasure.Waits on the table erasure_waits.
type erasureWaits struct{ db *pg.DB }

// ErasureWaits returns the store of why services wait.
func ErasureWaits(db *pg.DB) erasure.Waits { return erasureWaits{db} }

// Create writes why a service waits.
func (s erasureWaits) Create(ctx context.Context, w events.ErasureWait) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `
		insert into erasure_waits (erasure_id, service, reason) values ($1, $2, $3) on conflict (erasure_id, service) do update set reason = excluded.reason`,
		w.ErasureID, w.Service, w.Reason)
	if err != nil {
		return fmt.Errorf("store why %s waits with erasure %s: %w", w.Service, w.ErasureID, pg.Classify(err))
	}
	return nil
}

// Change stores a confirmation and changes the erasure, if there is one. The erasure is locked first, so that of two last
// confirmations one sees the other.
func (s erasures) Change(ctx context.Context, id, service string, doneAt time.Time, fn func(*erasure.Erasure) []event.Event) error {
	confirm := func(ctx context.Context) error {
		_, err := s.db.Conn(ctx).Exec(ctx, `insert into erasure_confirmations (erasure_id, service, done_at) values ($1, $2, $3) on conflict do nothing`, id, service, doneAt)
		if err != nil {
			return fmt.Errorf("confirm erasure %s: %w", id, err)
		}
		return nil
	}
	return s.db.InTx(ctx, func(ctx context.Context) error {
		exists := false
		if err := s.db.Conn(ctx).QueryRow(ctx, `select exists (select from erasures where id = $1)`, id).Scan(&exists); err != nil {
			return fmt.Errorf("find erasure %s: %w", id, err)
		}
		if !exists {
			return confirm(ctx)
		}
		_, err := s.Table.Change(ctx, id, func(e *erasure.Erasure) (_ []event.Event, err error) {
			if err := confirm(ctx); err != nil {
				return nil, err
			}
			if e.Confirmed, err = s.confirmations(ctx, id); err != nil {
				return nil, err
			}
			return fn(e), nil
		})
		return err
	})
}

// people erases what refers to clients or leads.
type people struct {
	db        *pg.DB
	followups followup.Store
	column    string // with the person's id, in followups, calls and timeline
	table     string // of the people
}

func erasesClients(db *pg.DB, out *outbox.Outbox) people {
	return people{db, FollowUps(db, out), "client_id", "clients"}
}

func erasesLeads(db *pg.DB, out *outbox.Outbox) people {
	return people{db, FollowUps(db, out), "lead_id", "leads"}
}

// Remove deletes the person's follow-ups and those of its calls, its timeline, and the stored answers that show it. The row of the
// person itself is deleted by who requests the erasure.
func (p people) Remove(ctx context.Context, id string, _ int64) error {
	return p.db.InTx(ctx, func(ctx context.Context) error {
		// What is just being created for the person is waited for.
		if _, err := p.db.Conn(ctx).Exec(ctx, `select from `+p.table+` where id = $1 for update`, id); err != nil {
			return fmt.Errorf("lock %s: %w", id, pg.Classify(err))
		}
		rows, err := p.db.Conn(ctx).Query(ctx, `
			select id::text from followups where `+p.column+` = $1 or call_id in (select id from calls where `+p.column+` = $1) order by id`, id)
		if err != nil {
			return fmt.Errorf("find the follow-ups of %s: %w", id, err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("find the follow-ups of %s: %w", id, err)
		}
		now := time.Time{}
		if err := p.db.Conn(ctx).QueryRow(ctx, `select now()`).Scan(&now); err != nil {
			return fmt.Errorf("read the database's clock: %w", err)
		}
		for _, f := range found {
			err := p.followups.Remove(ctx, f, func(x *followup.FollowUp) ([]event.Event, error) { return x.Erase(now.UTC()), nil })
			if err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
		}
		if _, err := p.db.Conn(ctx).Exec(ctx, `
			delete from timeline where `+p.column+` = $1 or call_id in (select id from calls where `+p.column+` = $1)`, id); err != nil {
			return fmt.Errorf("erase the timeline of %s: %w", id, pg.Classify(err))
		}
		return idempotency.New(p.db).Forget(ctx, append(found, id)...)
	})
}

// agents erases crm's copies of agents.
type agents struct{ db *pg.DB }

// Remove blanks the copy of an agent, which remains so that an older event does not bring the person back, and revokes its calendar.
func (a agents) Remove(ctx context.Context, id string, version int64) error {
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{`insert into agents (id, version, name, email, active) values ($1, $2, '', '', false)
			on conflict (id) do update set version = greatest(agents.version, excluded.version), name = '', email = '', active = false`, []any{id, version}},
		{`delete from calendar_tokens where agent_id = $1`, []any{id}},
	} {
		if _, err := a.db.Conn(ctx).Exec(ctx, statement.sql, statement.args...); err != nil {
			return fmt.Errorf("erase agent %s: %w", id, pg.Classify(err))
		}
	}
	return nil
}

// Erasers returns what erases people of each kind.
func Erasers(db *pg.DB, out *outbox.Outbox) map[string]erasure.Eraser {
	return map[string]erasure.Eraser{
		events.KindClient: erasesClients(db, out), events.KindLead: erasesLeads(db, out), events.KindAgent: agents{db},
	}
}
