package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Erase is the kind of the jobs that remove the recording of a deleted call.
const Erase job.Kind = "calls.erase"

// erasures implements call.Erasures on the table erasures.
type erasures struct{ *table.Table[call.Erasure] }

// Erasures returns the store of erasures.
func Erasures(db *pg.DB) call.Erasures { return newErasures(db) }

func newErasures(db *pg.DB) erasures {
	type erasure = call.Erasure
	return erasures{table.New(db, nil, table.Spec[erasure]{
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
func (s erasures) Remove(ctx context.Context, id string) error {
	err := s.Table.Remove(ctx, id, func(*call.Erasure) ([]event.Event, error) { return nil, nil })
	if pg.NoRows(err) {
		return nil
	}
	return err
}
