package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
)

// unique is a table in which a row can conflict with another one: by its phone number, for example.
type unique[T any] struct {
	*table.Table[T]
	db      *pg.DB
	indexes []string // the unique ones, by name
	like    string   // the query of the id of the row that one conflicts with
	args    func(row T) []any
	exists  func(id string) error // the fault of a conflict with that row
}

// attempts is how often a write is tried whose conflicting row is deleted before it can be read.
const attempts = 3

// Create writes a row with its events.
func (u unique[T]) Create(ctx context.Context, row T, events ...event.Event) error {
	return u.db.InTx(ctx, func(ctx context.Context) error {
		for range attempts {
			// A conflict must not abort the transaction: it may also store an Idempotency-Key.
			created, err := u.Table.Create(ctx, &row, "on conflict do nothing", events...)
			if err != nil || created {
				return err
			}
			if err := u.taken(ctx, row); err != nil {
				return err
			}
		}
		return fmt.Errorf("insert a row: the one that it conflicts with (%v) cannot be found", u.indexes)
	})
}

// Change changes a row.
func (u unique[T]) Change(ctx context.Context, id string, fn func(*T) ([]event.Event, error)) (row T, err error) {
	for range attempts {
		row, err = u.Table.Change(ctx, id, fn)
		if !slices.ContainsFunc(u.indexes, func(index string) bool { return pg.Unique(err, index) }) {
			break
		}
		if taken := u.taken(ctx, row); taken != nil {
			return *new(T), taken
		}
	}
	return row, err
}

// taken returns the fault exists if a row conflicts with another.
func (u unique[T]) taken(ctx context.Context, row T) error {
	var first string
	err := u.db.Conn(ctx).QueryRow(ctx, u.like, u.args(row)...).Scan(&first)
	switch {
	case pg.NoRows(err):
		return nil
	case err != nil:
		return fmt.Errorf("look for the row of a conflict: %w", err)
	default:
		return u.exists(first)
	}
}
