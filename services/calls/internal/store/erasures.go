package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Erase is the kind of the jobs that remove the recording of a deleted call.
const Erase job.Kind = "calls.erase"

// erasures implements call.Erasures on the table erasures.
type erasures struct {
	*table.Table[call.Erasure]
	db  *pg.DB
	out *outbox.Outbox
}

// Erasures returns the store of erasures.
func Erasures(db *pg.DB, out *outbox.Outbox) call.Erasures { return newErasures(db, out) }

func newErasures(db *pg.DB, out *outbox.Outbox) erasures {
	type erasure = call.Erasure
	return erasures{db: db, out: out, Table: table.New(db, nil, table.Spec[erasure]{
		Name: "erasures",
		Columns: func(e *erasure) table.Columns {
			return table.Columns{
				table.Fixed("id", &e.ID), table.Fixed("audio_key", &e.AudioKey),
			}
		},
		Missing: func() error { return pgx.ErrNoRows },
	})}
}

// Find reads the erasure of a call.
func (s erasures) Find(ctx context.Context, id string) (e call.Erasure, ok bool, err error) {
	e, err = s.Table.Find(ctx, id)
	if pg.NoRows(err) {
		return e, false, nil
	}
	return e, err == nil, err
}

// List reads old erasures, the oldest first.
func (s erasures) List(ctx context.Context, age time.Duration, limit int) ([]call.Erasure, error) {
	var w table.Where
	w.And("created_at < now() - ?::interval", age)
	return s.Query(ctx, w, fmt.Sprintf("order by created_at limit %d", limit))
}

// Remove deletes an erasure. It succeeds if there is none, because another job has done it.
func (s erasures) Remove(ctx context.Context, id string, done func(events.Erasure) event.Event) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		// The lock on the request makes one of two last erasures see that the other is gone.
		x, isLocked, err := s.request(ctx, id)
		if err != nil {
			return err
		}
		if _, err := s.db.Conn(ctx).Exec(ctx, `delete from erasures where id = $1`, id); err != nil {
			return fmt.Errorf("remove the erasure of call %s: %w", id, pg.Classify(err))
		}
		if !isLocked {
			return nil
		}
		_, err = end(ctx, s.db, s.out, x, done)
		return err
	})
}

// assign names the request that a recording is removed for, if there is one.
func (s erasures) assign(ctx context.Context, id string, d call.Details) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `
		update erasures set request_id = r.id from erasure_requests r where erasures.id = $1 and r.subject_id in ($2, $3)`, id, d.ClientID, d.LeadID)
	if err != nil {
		return fmt.Errorf("name the request of recording %s: %w", id, pg.Classify(err))
	}
	return nil
}

// end deletes a request of which nothing is left, and publishes that. The request must be locked.
func end(ctx context.Context, db *pg.DB, out *outbox.Outbox, x events.Erasure, done func(events.Erasure) event.Event) (ended bool, err error) {
	tag, err := db.Conn(ctx).Exec(ctx, `
		delete from erasure_requests where id = $1 and not exists (select from erasures where request_id = $1)
			and not exists (select from calls where client_id = $2) and not exists (select from calls where lead_id = $2)`, x.ErasureID, x.SubjectID)
	if err != nil {
		return false, fmt.Errorf("end the request %s: %w", x.ErasureID, pg.Classify(err))
	}
	if tag.RowsAffected() == 0 {
		return false, nil
	}
	return true, out.Append(ctx, done(x))
}

const requestColumns = `id::text, kind, subject_id::text, subject_version, requested_by::text, requested_at`

func scanRequest(r pgx.CollectableRow) (x events.Erasure, err error) {
	err = r.Scan(&x.ErasureID, &x.Kind, &x.SubjectID, &x.SubjectVersion, &x.RequestedBy, &x.RequestedAt)
	return x, err
}

// request locks the request that an erasure belongs to. ok is false for a recording of a call that was deleted by itself.
func (s erasures) request(ctx context.Context, id string) (x events.Erasure, ok bool, err error) {
	rows, err := s.db.Conn(ctx).Query(ctx, `
		select `+requestColumns+` from erasure_requests where id = (select request_id from erasures where id = $1) for update`, id)
	if err != nil {
		return x, false, fmt.Errorf("find the request of erasure %s: %w", id, pg.Classify(err))
	}
	x, ok, err = first(pgx.CollectRows(rows, scanRequest))
	return x, ok, pg.Classify(err)
}

// requests implements call.Requests on the table erasure_requests.
type requests struct {
	db  *pg.DB
	out *outbox.Outbox
}

// Requests returns the store of requests to erase a person.
func Requests(db *pg.DB, out *outbox.Outbox) call.Requests { return requests{db, out} }

// Create writes a request and locks it.
func (s requests) Create(ctx context.Context, x events.Erasure) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `
		insert into erasure_requests (id, kind, subject_id, subject_version, requested_by, requested_at) values ($1, $2, $3, $4, $5, $6)
		on conflict (id) do update set kind = excluded.kind`,
		x.ErasureID, x.Kind, x.SubjectID, x.SubjectVersion, x.RequestedBy, x.RequestedAt)
	if err != nil {
		return fmt.Errorf("store the request %s: %w", x.ErasureID, pg.Classify(err))
	}
	return nil
}

// List reads the requests that can be continued. Those that only wait for their recordings are continued in vain.
func (s requests) List(ctx context.Context, limit int) ([]events.Erasure, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, `
		select `+requestColumns+` from erasure_requests r
		where exists (select from calls where client_id = r.subject_id and not legal_hold) or exists (select from calls where lead_id = r.subject_id and not legal_hold)
			or not exists (select from calls where client_id = r.subject_id) and not exists (select from calls where lead_id = r.subject_id)
		order by requested_at limit $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("list requests to erase a person: %w", pg.Classify(err))
	}
	found, err := pgx.CollectRows(rows, scanRequest)
	return found, pg.Classify(err)
}

// Remove ends a request, if nothing of it is left.
func (s requests) Remove(ctx context.Context, x events.Erasure, deleted []string, done, waiting func(events.Erasure) event.Event) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		if err := idempotency.New(s.db).Forget(ctx, append(deleted, x.SubjectID)...); err != nil {
			return err
		}
		ended, err := end(ctx, s.db, s.out, x, done)
		if err != nil || ended {
			return err
		}
		var waits bool
		err = s.db.Conn(ctx).QueryRow(ctx, `select exists (select from calls where client_id = $1) or exists (select from calls where lead_id = $1)`, x.SubjectID).Scan(&waits)
		if err != nil || !waits {
			return pg.Classify(err)
		}
		return s.out.Append(ctx, waiting(x))
	})
}
