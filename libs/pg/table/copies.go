package table

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
)

// Copies is a table with copies of another service's objects, built from its events. The first two columns are the id and the
// owner's version of the object, which grows with each change. Events may arrive in any order and more than once. It is safe
// for concurrent use.
type Copies[T any] struct {
	table   *Table[T]
	db      *pg.DB
	upsert  string
	version func(*T) int64
	record  Record[T]
}

// Record writes what is derived from a copy, such as counts, in the transaction of each change of it.
type Record[T any] func(ctx context.Context, changes []Change[T]) error

// NewCopies returns access to the named table. columns begin with the id and the version.
func NewCopies[T any](db *pg.DB, name string, columns func(*T) Columns) *Copies[T] {
	t := New(db, nil, Spec[T]{Name: name, Columns: columns, Missing: func() error { return pgx.ErrNoRows }})
	var set []string
	all := columns(new(T))
	for _, c := range all[1:] {
		set = append(set, c.name+" = excluded."+c.name)
	}
	id, version := all[0].name, all[1].name
	return &Copies[T]{table: t, db: db, version: func(row *T) int64 { return *columns(row)[1].field.(*int64) }, upsert: fmt.Sprintf("%s on conflict (%s) do update set %s where excluded.%s > %s.%s",
		t.inserted, id, strings.Join(set, ", "), version, name, version)}
}

// Recorded sets what runs in the transaction of each change of a copy, and returns c. Call it before c is used.
func (c *Copies[T]) Recorded(record Record[T]) *Copies[T] {
	c.record = record
	return c
}

// Find reads a copy. ok is false for an object that no event has named yet.
func (c *Copies[T]) Find(ctx context.Context, id string) (row T, ok bool, err error) {
	row, err = c.table.Find(ctx, id)
	if pg.NoRows(err) {
		return row, false, nil
	}
	return row, err == nil, err
}

// Upsert stores a copy. It ignores one whose version is not newer than the stored one.
func (c *Copies[T]) Upsert(ctx context.Context, row T) error {
	if c.record == nil {
		return c.db.Later(ctx, "store a copy in "+c.table.spec.Name, c.upsert, c.table.args(&row, false)...)
	}
	return pg.Classify(c.db.InTx(ctx, func(ctx context.Context) error { return c.change(ctx, row) }))
}

// change is Upsert with a record of the change, for which it locks the copy first.
func (c *Copies[T]) change(ctx context.Context, row T) error {
	id := *c.table.spec.Columns(&row)[0].field.(*string)
	var w Where
	w.And(c.table.id+" = ?", id)
	for {
		found, err := c.table.Query(ctx, w, c.table.lock())
		if err != nil {
			return err
		}
		if len(found) > 0 {
			before := found[0]
			if c.version(&row) <= c.version(&before) {
				return nil
			}
			if err := c.table.write(ctx, &row); err != nil {
				return err
			}
			return c.record(ctx, []Change[T]{{Before: &before, After: &row}})
		}
		tag, err := c.db.Conn(ctx).Exec(ctx, c.table.inserted+" on conflict do nothing", c.table.args(&row, false)...)
		if err != nil {
			return fmt.Errorf("store a copy in %s: %w", c.table.spec.Name, err)
		}
		if tag.RowsAffected() > 0 {
			return c.record(ctx, []Change[T]{{After: &row}})
		}
		// Another transaction has inserted it meanwhile.
	}
}
