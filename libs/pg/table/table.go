// Package table gives a store access to one table whose rows are a Go type: find a row, list a page, create, change under a
// row lock, remove. Every write includes its events in the same transaction, so that no store can change a row without its
// lock or publish an event without its change. A database that is unavailable is the fault Unavailable (pg.Classify). The package
// refuses to know any particular table.
package table

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
)

// Spec describes a table whose rows are a T.
type Spec[T any] struct {
	Name string
	// Columns binds the columns to the fields of a row. The first is the id.
	Columns func(*T) Columns
	// From is the from clause of reads, if they join other tables: the table's name with an alias, and the joins. Columns of
	// the joined tables are read-only. Empty means the table alone.
	From string
	// Replan makes PostgreSQL plan each read for its values, for conditions of which some values match most rows and others few.
	Replan bool
	// Order is the order of List.
	Order Order[T]
	// Missing returns the fault for a row that does not exist.
	Missing func() error
	// Save runs in the transaction of every Create and Change, after the row was written: it writes the row's data in other
	// tables, and inserts the job that the change requests. before is nil for a new row. Save may be nil.
	Save func(ctx context.Context, before, after *T) error
	// Record runs in the transaction of every write, after Save, with all rows that the write changed: it stores what is derived
	// from the rows, such as counts and histories. Unlike Save it also runs for removed rows, and once for all rows of ChangeAll.
	// It may be nil.
	Record func(ctx context.Context, changes []Change[T]) error
	// Context returns the context for the events and jobs of a changed row, for rows whose trace began in an earlier request. It
	// may be nil.
	Context func(ctx context.Context, row *T) context.Context
}

// Change is a row before and after a write. Before is nil for a new row, and After for a removed one.
type Change[T any] struct{ Before, After *T }

// Columns are the columns of one row.
type Columns []Column

// Of returns the columns as read-only ones of a joined table with this alias.
func (c Columns) Of(alias string) Columns {
	of := make(Columns, len(c))
	for i, column := range c {
		of[i] = Joined(alias+"."+column.name, column.field)
	}
	return of
}

// Column is one column with a pointer to its field, for scanning and for arguments.
type Column struct {
	name  string // or the expression of a joined one
	field any
	kind  kind
}

type kind uint8

const (
	plain     kind = iota
	fixed          // written by Create only
	joined         // read-only
	remaining      // a duration in the row, a point in time in the table
)

// Col is a column that is read and written without conversion.
func Col(name string, field any) Column { return Column{name, field, plain} }

// Fixed is a column that only Create writes.
func Fixed(name string, field any) Column { return Column{name, field, fixed} }

// Joined is a read-only expression, such as a column of a joined table: "t.text".
func Joined(expression string, field any) Column { return Column{expression, field, joined} }

// Remaining is a column of type timestamptz whose field is a *time.Duration: the time left until then, by the database's
// clock. Both read and write use the transaction's now(), so an unchanged field is written back exactly.
func Remaining(name string, field any) Column { return Column{name, field, remaining} }

// read is the select expression. alias is the table's, with its dot, or empty.
func (c Column) read(alias string) string {
	switch c.kind {
	case joined:
		return c.name
	case remaining:
		return alias + c.name + " - now()"
	default:
		return alias + c.name
	}
}

// write is the expression that is written, with the placeholder $n.
func (c Column) write(n int) string {
	place := "$" + strconv.Itoa(n)
	if c.kind == remaining {
		return "now() + " + place + "::interval"
	}
	return place
}

// Order is the order of a list. The combination of its keys must be unique, so that a cursor names one position.
type Order[T any] struct {
	Keys []Key[T]
	Desc bool // all keys descending
}

// Key is one column of an order.
type Key[T any] struct {
	Name string
	Type string // PostgreSQL type, such as timestamptz
	Of   func(T) any
	As   string // converts the value of Of like Name does its column, such as "lower(?)"; may be empty
}

// Table accesses a table. It is safe for concurrent use.
type Table[T any] struct {
	spec   Spec[T]
	db     *pg.DB
	outbox *outbox.Outbox

	id                                   string // the column, with its table's alias
	selected, inserted, updated, deleted string
}

// New returns access to a table. out may be nil if its rows have no events.
func New[T any](db *pg.DB, out *outbox.Outbox, spec Spec[T]) *Table[T] {
	if spec.From == "" {
		spec.From = spec.Name
	}
	alias := ""
	if fields := strings.Fields(spec.From); len(fields) > 1 {
		alias = fields[1] + "."
	}
	var read, names, values, set []string
	columns := spec.Columns(new(T))
	for i, c := range columns {
		read = append(read, c.read(alias))
		if c.kind == joined {
			continue
		}
		names, values = append(names, c.name), append(values, c.write(len(names)+1))
		if i > 0 && c.kind != fixed {
			set = append(set, c.name+" = "+c.write(len(set)+2)) // the id is $1
		}
	}
	id := columns[0].name
	return &Table[T]{
		spec: spec, db: db, outbox: out, id: alias + id,
		selected: "select " + strings.Join(read, ", ") + " from " + spec.From,
		inserted: "insert into " + spec.Name + " (" + strings.Join(names, ", ") + ") values (" + strings.Join(values, ", ") + ")",
		updated:  "update " + spec.Name + " set " + strings.Join(set, ", ") + " where " + id + " = $1",
		deleted:  "delete from " + spec.Name + " where " + id + " = $1",
	}
}

// args returns the arguments of an insert, or of an update, which omits the fixed columns except the id.
func (t *Table[T]) args(row *T, update bool) []any {
	columns := t.spec.Columns(row)
	args := make([]any, 0, len(columns))
	for i, c := range columns {
		if c.kind == joined || update && c.kind == fixed && i > 0 {
			continue
		}
		args = append(args, argument(c.field))
	}
	return args
}

// argument returns what a field points to, for the usual types. pgx takes pointers too, but finds out for each how to encode it, and
// tries the binary format of a uuid before the text that it gets.
func argument(field any) any {
	switch f := field.(type) {
	case *string:
		return *f
	case **string:
		return pointed(*f)
	case *time.Time:
		return *f
	case **time.Time:
		return pointed(*f)
	default:
		return field
	}
}

func pointed[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// Query reads the rows that match the conditions. rest is the end of the statement after the where clause, such as an order.
func (t *Table[T]) Query(ctx context.Context, w Where, rest string) ([]T, error) {
	args := w.args
	if t.spec.Replan {
		args = slices.Insert(slices.Clone(args), 0, any(pgx.QueryExecModeCacheDescribe))
	}
	rows, err := t.db.Conn(ctx).Query(ctx, t.selected+w.String()+" "+rest, args...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.spec.Name, pg.Classify(err))
	}
	// One row is bound to the columns and copied for each that is found.
	var row T
	columns := t.spec.Columns(&row)
	fields := make([]any, len(columns))
	for i, c := range columns {
		fields[i] = c.field
	}
	found, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (T, error) {
		var empty T
		row = empty
		err := r.Scan(fields...)
		return row, err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.spec.Name, pg.Classify(err))
	}
	return found, nil
}

// Find reads a row by its id. It fails with Spec.Missing.
func (t *Table[T]) Find(ctx context.Context, id string) (T, error) {
	var w Where
	w.And(t.id+" = ?", id)
	return t.one(ctx, w, "")
}

// FindWhere reads the one row that matches the conditions. It fails with Spec.Missing.
func (t *Table[T]) FindWhere(ctx context.Context, w Where) (T, error) { return t.one(ctx, w, "") }

func (t *Table[T]) one(ctx context.Context, w Where, lock string) (T, error) {
	found, err := t.Query(ctx, w, lock)
	if err == nil && len(found) == 0 {
		err = t.spec.Missing()
	}
	if err != nil {
		var none T
		return none, err
	}
	return found[0], nil
}

// lock returns the clause that locks the rows of this table, and not those of joined tables.
func (t *Table[T]) lock() string {
	if fields := strings.Fields(t.spec.From); len(fields) > 1 {
		return "for no key update of " + fields[1]
	}
	return "for no key update"
}

// List reads one page of the rows that match the conditions. It fails with an Invalid fault for a cursor of another list.
func (t *Table[T]) List(ctx context.Context, w Where, r page.Request) (page.Of[T], error) {
	return t.ListBy(ctx, t.spec.Order, w, r)
}

// ListBy is List in another order.
func (t *Table[T]) ListBy(ctx context.Context, order Order[T], w Where, r page.Request) (page.Of[T], error) {
	r.Limit = max(r.Limit, 1)
	if r.Cursor != "" {
		if err := order.after(&w, r.Cursor); err != nil {
			return page.Of[T]{}, err
		}
	}
	// One row beyond the limit shows whether there is a next page.
	rest := fmt.Sprintf("order by %s limit %d offset %d", order, r.Limit+1, r.Skip)
	items, err := t.Query(ctx, w, rest)
	if err != nil || len(items) <= r.Limit {
		return page.Of[T]{Items: items}, err
	}
	items = items[:r.Limit]
	return page.Of[T]{Items: items, Next: order.cursor(items[r.Limit-1])}, nil
}

// Create inserts a row with its events. conflict is an on conflict clause, such as "on conflict do nothing", or empty. created
// is false when that clause prevented the insert.
func (t *Table[T]) Create(ctx context.Context, row *T, conflict string, events ...event.Event) (created bool, err error) {
	err = t.db.InTx(ctx, func(ctx context.Context) error {
		tag, err := t.db.Conn(ctx).Exec(ctx, t.inserted+" "+conflict, t.args(row, false)...)
		if err != nil {
			return fmt.Errorf("insert into %s: %w", t.spec.Name, err)
		}
		if created = tag.RowsAffected() > 0; !created {
			return nil
		}
		return t.finish(ctx, nil, row, events)
	})
	return created, pg.Classify(err)
}

// Change loads and locks a row, lets fn change it, and saves it with the events that fn returns, in one transaction. fn may run
// more than once. Change fails with Spec.Missing, or with fn's error.
func (t *Table[T]) Change(ctx context.Context, id string, fn func(*T) ([]event.Event, error)) (T, error) {
	return t.alter(ctx, id, fn, func(ctx context.Context, before, row *T, events []event.Event) error {
		if err := t.write(ctx, row); err != nil {
			return err
		}
		return t.finish(ctx, before, row, events)
	})
}

// Remove deletes a row and publishes the events that fn returns, in one transaction. fn runs while the row is locked. Remove
// fails like Change.
func (t *Table[T]) Remove(ctx context.Context, id string, fn func(*T) ([]event.Event, error)) error {
	_, err := t.alter(ctx, id, fn, func(ctx context.Context, before, row *T, events []event.Event) error {
		if _, err := t.db.Conn(ctx).Exec(ctx, t.deleted, id); err != nil {
			return fmt.Errorf("delete from %s: %w", t.spec.Name, err)
		}
		ctx = t.context(ctx, row)
		if err := t.publish(ctx, events); err != nil {
			return err
		}
		return t.record(ctx, Change[T]{Before: before})
	})
	return err
}

// ChangeEach changes up to limit rows that match the conditions, in the given order and in one transaction, and returns how
// many it changed. It skips rows that another transaction has locked. fn must change each row so that it no longer matches.
func (t *Table[T]) ChangeEach(ctx context.Context, w Where, order string, limit int, fn func(*T) ([]event.Event, error)) (n int, err error) {
	err = t.db.InTx(ctx, func(ctx context.Context) error {
		found, err := t.Query(ctx, w, fmt.Sprintf("order by %s limit %d %s skip locked", order, limit, t.lock()))
		if err != nil {
			return err
		}
		n = len(found)
		for _, row := range found {
			before := row
			events, err := fn(&row)
			if err != nil {
				return err
			}
			if err := t.write(ctx, &row); err != nil {
				return err
			}
			if err := t.finish(ctx, &before, &row, events); err != nil {
				return err
			}
		}
		return nil
	})
	return n, pg.Classify(err)
}

func (t *Table[T]) alter(ctx context.Context, id string, fn func(*T) ([]event.Event, error), write func(context.Context, *T, *T, []event.Event) error) (row T, err error) {
	err = t.db.InTx(ctx, func(ctx context.Context) (err error) {
		var w Where
		w.And(t.id+" = ?", id)
		if row, err = t.one(ctx, w, t.lock()); err != nil {
			return err
		}
		before := row
		events, err := fn(&row)
		if err != nil {
			return err
		}
		return write(ctx, &before, &row, events)
	})
	return row, pg.Classify(err)
}

func (t *Table[T]) write(ctx context.Context, row *T) error {
	if _, err := t.db.Conn(ctx).Exec(ctx, t.updated, t.args(row, true)...); err != nil {
		return fmt.Errorf("update %s: %w", t.spec.Name, err)
	}
	return nil
}

// finish writes the events of a changed row and calls Spec.Save.
func (t *Table[T]) finish(ctx context.Context, before, after *T, events []event.Event) error {
	ctx = t.context(ctx, after)
	if err := t.publish(ctx, events); err != nil {
		return err
	}
	if t.spec.Save != nil {
		if err := t.spec.Save(ctx, before, after); err != nil {
			return err
		}
	}
	return t.record(ctx, Change[T]{before, after})
}

func (t *Table[T]) record(ctx context.Context, changes ...Change[T]) error {
	if t.spec.Record == nil || len(changes) == 0 {
		return nil
	}
	return t.spec.Record(ctx, changes)
}

func (t *Table[T]) publish(ctx context.Context, events []event.Event) error {
	if len(events) == 0 {
		return nil
	}
	return t.outbox.Append(ctx, events...)
}

func (t *Table[T]) context(ctx context.Context, row *T) context.Context {
	if t.spec.Context == nil {
		return ctx
	}
	return t.spec.Context(ctx, row)
}
