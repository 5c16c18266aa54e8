package table

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
)

// Outcome is what ChangeAll does with a row.
type Outcome int

// The outcomes of a row.
const (
	Unchanged Outcome = iota // the row was not changed
	Write                    // it is saved as fn has changed it
	Delete                   // it is deleted
)

// ChangeAll changes the rows with these ids in one transaction and in a number of statements that does not depend on how many
// there are. It locks them in the order of their ids, so that two of them never wait for each other. fn decides what becomes of a
// row, and returns its events; it may run more than once. found has the ids of the rows that exist. Spec.Save must be nil, because
// it writes each row by itself.
func (t *Table[T]) ChangeAll(ctx context.Context, ids []string, fn func(*T) (Outcome, []event.Event, error)) (found []string, err error) {
	var w Where
	w.And(t.id+" = any(?::uuid[])", ids)
	rows, err := t.ChangeWhere(ctx, w, "order by "+t.id+" "+t.lock(), fn)
	if err != nil {
		return nil, err
	}
	found = make([]string, len(rows))
	for i := range rows {
		found[i] = *t.spec.Columns(&rows[i])[0].field.(*string)
	}
	return found, nil
}

// ChangeWhere is ChangeAll for the rows that match the conditions; rest is the end of the statement that reads them, with its lock. It
// returns the rows as fn has left them.
func (t *Table[T]) ChangeWhere(ctx context.Context, w Where, rest string, fn func(*T) (Outcome, []event.Event, error)) (rows []T, err error) {
	if t.spec.Save != nil {
		return nil, fmt.Errorf("change rows of %s: a table with Save changes one row at a time", t.spec.Name)
	}
	err = t.db.InTx(ctx, func(ctx context.Context) error {
		if rows, err = t.Query(ctx, w, rest); err != nil || len(rows) == 0 {
			return err
		}
		now, err := t.now(ctx)
		if err != nil {
			return err
		}
		var changes []Change[T]
		var events []outbox.Traced
		var written []map[string]any
		var deleted []string
		for i := range rows {
			before, after := rows[i], &rows[i]
			columns := t.spec.Columns(after)
			outcome, published, err := fn(after)
			if err != nil {
				return err
			}
			switch outcome {
			case Unchanged:
				continue
			case Write:
				written = append(written, values(columns, now, func(i int) bool { return i == 0 || columns[i].kind == plain || columns[i].kind == remaining }))
				changes = append(changes, Change[T]{&before, after})
			case Delete:
				deleted = append(deleted, *columns[0].field.(*string))
				changes = append(changes, Change[T]{Before: &before})
			}
			events = append(events, t.traced(ctx, after, published)...)
		}
		if err := t.writeAll(ctx, written); err != nil {
			return err
		}
		if len(deleted) > 0 {
			if _, err := t.db.Conn(ctx).Exec(ctx, "delete from "+t.spec.Name+" where "+t.spec.Columns(new(T))[0].name+" = any($1::uuid[])", deleted); err != nil {
				return fmt.Errorf("delete from %s: %w", t.spec.Name, err)
			}
		}
		if err := t.publishTraced(ctx, events); err != nil {
			return err
		}
		return t.record(ctx, changes...)
	})
	return rows, pg.Classify(err)
}

// now reads the transaction's time, by which columns that are Remaining are stored.
func (t *Table[T]) now(ctx context.Context) (now time.Time, err error) {
	if !slices.ContainsFunc(t.spec.Columns(new(T)), func(c Column) bool { return c.kind == remaining }) {
		return now, nil
	}
	if err := t.db.Conn(ctx).QueryRow(ctx, "select now()").Scan(&now); err != nil {
		return now, fmt.Errorf("read the database's clock: %w", err)
	}
	return now, nil
}

// values returns the columns of a row that are written, as JSON from which PostgreSQL makes the row.
func values(columns Columns, now time.Time, is func(int) bool) map[string]any {
	row := map[string]any{}
	for i, c := range columns {
		if is(i) {
			row[c.name] = c.value(now)
		}
	}
	return row
}

func (c Column) value(now time.Time) any {
	switch field := c.field.(type) {
	case *[]byte: // as text, which JSON cannot hold otherwise
		if *field == nil {
			return nil
		}
		return fmt.Sprintf(`\x%x`, *field)
	case **time.Duration:
		if c.kind == remaining && *field != nil {
			return now.Add(**field)
		}
	}
	return c.field
}

// traced returns the events of a row with their trace.
func (t *Table[T]) traced(ctx context.Context, row *T, events []event.Event) []outbox.Traced {
	traced := make([]outbox.Traced, len(events))
	for i, e := range events {
		traced[i] = t.outbox.Traced(t.context(ctx, row), e)
	}
	return traced
}

func (t *Table[T]) publishTraced(ctx context.Context, events []outbox.Traced) error {
	if len(events) == 0 {
		return nil
	}
	return t.outbox.AppendTraced(ctx, events...)
}

// writeAll writes rows in one statement: they are one JSON array, which PostgreSQL converts to the types of the table.
func (t *Table[T]) writeAll(ctx context.Context, rows []map[string]any) error {
	if len(rows) == 0 {
		return nil
	}
	var set []string
	columns := t.spec.Columns(new(T))
	for _, c := range columns[1:] {
		if c.kind == plain || c.kind == remaining {
			set = append(set, c.name+" = v."+c.name)
		}
	}
	raw, err := json.Marshal(rows)
	if err != nil {
		return fmt.Errorf("marshal rows of %s: %w", t.spec.Name, err)
	}
	id := columns[0].name
	statement := fmt.Sprintf("update %s t set %s from jsonb_populate_recordset(null::%s, $1::jsonb) v where t.%s = v.%s",
		t.spec.Name, strings.Join(set, ", "), t.spec.Name, id, id)
	if _, err := t.db.Conn(ctx).Exec(ctx, statement, string(raw)); err != nil {
		return fmt.Errorf("update %s: %w", t.spec.Name, err)
	}
	return nil
}

// CreateLater inserts rows just before the transaction in ctx commits, a statement for each (pg.DB.Later). They have no events, and
// neither Spec.Record nor Spec.Save runs.
func (t *Table[T]) CreateLater(ctx context.Context, rows []T) error {
	for i := range rows {
		if err := t.db.Later(ctx, "insert into "+t.spec.Name, t.inserted, t.args(&rows[i], false)...); err != nil {
			return err
		}
	}
	return nil
}

// CreateAll inserts rows with their events in one transaction and one statement for the rows. It leaves out rows that conflict with
// one that exists, and returns the ids of those that it inserted. eventsOf returns the events of a row. Spec.Save must be nil.
func (t *Table[T]) CreateAll(ctx context.Context, rows []T, eventsOf func(*T) []event.Event) (created []string, err error) {
	if t.spec.Save != nil {
		return nil, fmt.Errorf("insert into %s: Save writes one row at a time", t.spec.Name)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	names := make([]string, 0, len(rows))
	for _, c := range t.spec.Columns(new(T)) {
		if c.kind != joined {
			names = append(names, c.name)
		}
	}
	list := strings.Join(names, ", ")
	statement := fmt.Sprintf("insert into %s (%s) select %s from jsonb_populate_recordset(null::%s, $1::jsonb) on conflict do nothing returning %s::text",
		t.spec.Name, list, list, t.spec.Name, names[0])
	err = t.db.InTx(ctx, func(ctx context.Context) error {
		now, err := t.now(ctx)
		if err != nil {
			return err
		}
		written := make([]map[string]any, len(rows))
		for i := range rows {
			columns := t.spec.Columns(&rows[i])
			written[i] = values(columns, now, func(i int) bool { return columns[i].kind != joined })
		}
		raw, err := json.Marshal(written)
		if err != nil {
			return fmt.Errorf("marshal rows of %s: %w", t.spec.Name, err)
		}
		inserted, err := t.db.Conn(ctx).Query(ctx, statement, string(raw))
		if err != nil {
			return fmt.Errorf("insert into %s: %w", t.spec.Name, err)
		}
		if created, err = pgx.CollectRows(inserted, pgx.RowTo[string]); err != nil {
			return fmt.Errorf("insert into %s: %w", t.spec.Name, err)
		}
		isNew := make(map[string]bool, len(created))
		for _, id := range created {
			isNew[id] = true
		}
		var changes []Change[T]
		var events []outbox.Traced
		for i := range rows {
			if isNew[*t.spec.Columns(&rows[i])[0].field.(*string)] {
				changes = append(changes, Change[T]{After: &rows[i]})
				events = append(events, t.traced(ctx, &rows[i], eventsOf(&rows[i]))...)
			}
		}
		if err := t.publishTraced(ctx, events); err != nil {
			return err
		}
		return t.record(ctx, changes...)
	})
	return created, pg.Classify(err)
}
