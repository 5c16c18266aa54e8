package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Erase is the kind of the jobs that remove the recording of a deleted call.
const Erase job.Kind = "calls.erase"

// erasures is the table erasures, a call.Erasures.
type erasures struct{ db *pg.DB }

// Erasures makes the store of erasures.
func Erasures(db *pg.DB) call.Erasures { return erasures{db} }

// insertErasure writes an erasure with its job, in the transaction of ctx.
func insertErasure(ctx context.Context, db *pg.DB, jobs *job.Queue, e call.Erasure) error {
	if _, err := db.Conn(ctx).Exec(ctx, `insert into erasures (id, audio_key) values ($1, $2)`, e.ID, e.AudioKey); err != nil {
		return fmt.Errorf("insert the erasure of call %s: %w", e.ID, err)
	}
	return jobs.Insert(ctx, Erase, e.ID, lease.New())
}

const selectErasures = `select id::text, audio_key from erasures `

// Find reads the erasure of a call.
func (s erasures) Find(ctx context.Context, id string) (e call.Erasure, ok bool, err error) {
	err = s.db.Conn(ctx).QueryRow(ctx, selectErasures+`where id = $1`, id).Scan(&e.ID, &e.AudioKey)
	if pg.NoRows(err) {
		return e, false, nil
	}
	if err != nil {
		return e, false, fmt.Errorf("read the erasure of call %s: %w", id, err)
	}
	return e, true, nil
}

// List reads old erasures, the oldest first.
func (s erasures) List(ctx context.Context, age time.Duration, limit int) ([]call.Erasure, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, selectErasures+`where created_at < now() - $1::interval order by created_at limit $2`, age, limit)
	if err != nil {
		return nil, fmt.Errorf("list erasures: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[call.Erasure])
	if err != nil {
		return nil, fmt.Errorf("list erasures: %w", err)
	}
	return found, nil
}

// Remove deletes an erasure.
func (s erasures) Remove(ctx context.Context, id string) error {
	if _, err := s.db.Conn(ctx).Exec(ctx, `delete from erasures where id = $1`, id); err != nil {
		return fmt.Errorf("delete the erasure of call %s: %w", id, err)
	}
	return nil
}
