package table

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg"
)

// Fate is what ChangeAll does with a row.
type Fate int

// The fates of a row.
const (
	Keep   Fate = iota // the row was not changed
	Write              // it is saved as fn has changed it
	Delete             // it is deleted
)

// ChangeAll changes the rows with these ids in one transaction and in a number of statements that does not depend on how many
// there are. It locks them in the order of their ids, so that two of them never wait for each other. fn decides what becomes of a
// row, and returns its events; it may run more than once. found has the ids of the rows that exist. Spec.Save must be nil, because
// it writes each row by itself, and no column may be Remaining.
func (t *Table[T]) ChangeAll(ctx context.Context, ids []string, fn func(*T) (Fate, []event.Event, error)) (found []string, err error) {
	if t.spec.Save != nil || slices.ContainsFunc(t.spec.Columns(new(T)), func(c Column) bool { return c.kind == remaining }) {
		return nil, fmt.Errorf("change rows of %s: a table with Save or a Remaining column changes one row at a time", t.spec.Name)
	}
	err = t.db.InTx(ctx, func(ctx context.Context) error {
		var w Where
		w.And(t.id+" = any(?::uuid[])", ids)
		rows, err := t.Query(ctx, w, "order by "+t.id+" "+t.lock())
		if err != nil {
			return err
		}
		found = make([]string, len(rows))
		var changes []Change[T]
		var events []event.Event
		var written []map[string]any
		var deleted []string
		for i := range rows {
			before, after := rows[i], &rows[i]
			columns := t.spec.Columns(after)
			id := *columns[0].field.(*string)
			found[i] = id
			fate, published, err := fn(after)
			if err != nil {
				return err
			}
			switch fate {
			case Keep:
				continue
			case Write:
				written = append(written, values(columns))
				changes = append(changes, Change[T]{&before, after})
			case Delete:
				deleted = append(deleted, id)
				changes = append(changes, Change[T]{Before: &before})
			}
			events = append(events, published...)
		}
		if err := t.writeAll(ctx, written); err != nil {
			return err
		}
		if len(deleted) > 0 {
			if _, err := t.db.Conn(ctx).Exec(ctx, "delete from "+t.spec.Name+" where "+t.spec.Columns(new(T))[0].name+" = any($1::uuid[])", deleted); err != nil {
				return fmt.Errorf("delete from %s: %w", t.spec.Name, err)
			}
		}
		if err := t.publish(ctx, events); err != nil {
			return err
		}
		return t.record(ctx, changes...)
	})
	return found, pg.Classify(err)
}

// values returns the columns of a row that an update writes, with the id.
func values(columns Columns) map[string]any {
	row := map[string]any{}
	for i, c := range columns {
		if c.kind == plain || i == 0 {
			row[c.name] = c.field
		}
	}
	return row
}

// writeAll writes rows in one statement: they are one JSON array, which PostgreSQL converts to the types of the table.
func (t *Table[T]) writeAll(ctx context.Context, rows []map[string]any) error {
	if len(rows) == 0 {
		return nil
	}
	var set []string
	columns := t.spec.Columns(new(T))
	for _, c := range columns[1:] {
		if c.kind == plain {
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
// one that exists, and returns the ids of those that it inserted. eventsOf returns the events of a row. Spec.Save must be nil, and no
// column may be Remaining.
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
	values := make([]map[string]any, len(rows))
	for i := range rows {
		values[i] = map[string]any{}
		for _, c := range t.spec.Columns(&rows[i]) {
			if c.kind != joined {
				values[i][c.name] = c.field
			}
		}
	}
	raw, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("marshal rows of %s: %w", t.spec.Name, err)
	}
	list := strings.Join(names, ", ")
	statement := fmt.Sprintf("insert into %s (%s) select %s from jsonb_populate_recordset(null::%s, $1::jsonb) on conflict do nothing returning %s::text",
		t.spec.Name, list, list, t.spec.Name, names[0])
	err = t.db.InTx(ctx, func(ctx context.Context) error {
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
		var events []event.Event
		for i := range rows {
			if isNew[*t.spec.Columns(&rows[i])[0].field.(*string)] {
				changes = append(changes, Change[T]{After: &rows[i]})
				events = append(events, eventsOf(&rows[i])...)
			}
		}
		if err := t.publish(ctx, events); err != nil {
			return err
		}
		return t.record(ctx, changes...)
	})
	return created, pg.Classify(err)
}
