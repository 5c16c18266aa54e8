// Package store keeps clients, follow-ups and the copies of calls and agents in PostgreSQL. Nothing here decides anything:
// a change and its events are one transaction, and what they are comes from the domain.
package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables of crm.
func Migrations() pg.Migrations {
	sub, _ := fs.Sub(files, "migrations") // the name is right: the embed directive says so
	return pg.Migrations{Name: "crm", FS: sub}
}

// table is a table whose rows are a T. The fields of T are the columns.
type table[T any] struct {
	db       *pg.DB
	out      *outbox.Outbox
	name     string
	columns  string // all of T, for select
	order    string // of a list: the key of a position, then the id
	after    string // the condition of being behind the position @at, @after in that order
	position func(T) pg.Cursor
	utc      func(*T)     // PostgreSQL's times come in the machine's zone
	missing  func() error // the fault of a row that is not there
}

func (t table[T]) query(ctx context.Context, rest string, args pgx.NamedArgs) ([]T, error) {
	rows, err := t.db.Conn(ctx).Query(ctx, "select "+t.columns+" from "+t.name+" "+rest, args)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.name, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.name, err)
	}
	for i := range found {
		t.utc(&found[i])
	}
	return found, nil
}

func (t table[T]) find(ctx context.Context, id, lock string) (T, error) {
	found, err := t.query(ctx, "where id = @id "+lock, pgx.NamedArgs{"id": id})
	if err == nil && len(found) == 0 {
		err = t.missing()
	}
	if err != nil {
		var none T
		return none, err
	}
	return found[0], nil
}

// list reads one page of what the conditions leave, and the cursor of the next one.
func (t table[T]) list(ctx context.Context, c conditions, limit, skip int, cursor string) (items []T, next string, err error) {
	if cursor != "" {
		at, err := pg.DecodeCursor(cursor)
		if err != nil {
			return nil, "", err
		}
		c.add(t.after, "at", at.At)
		c.args["after"] = at.ID
	}
	c.args["rows"], c.args["skip"] = limit+1, skip // one more shows whether there is a next page
	items, err = t.query(ctx, c.where()+" order by "+t.order+" limit @rows offset @skip", c.args)
	if err != nil || len(items) <= limit {
		return items, "", err
	}
	return items[:limit], t.position(items[limit-1]).Encode(), nil
}

// alter loads a row under its lock, lets fn change it, writes it and appends the events, all or nothing. Without events
// nothing has changed and nothing is written.
func (t table[T]) alter(ctx context.Context, id string, fn func(*T) ([]contract.Event, error), write func(context.Context, T) error) (T, error) {
	var row T
	err := t.db.InTx(ctx, func(ctx context.Context) (err error) {
		if row, err = t.find(ctx, id, "for update"); err != nil {
			return err
		}
		events, err := fn(&row)
		if err != nil || len(events) == 0 {
			return err
		}
		if err := write(ctx, row); err != nil {
			return fmt.Errorf("write %s %s: %w", t.name, id, err)
		}
		return t.out.Append(ctx, events...)
	})
	return row, err
}

func (t table[T]) remove(ctx context.Context, id string, fn func(*T) ([]contract.Event, error)) error {
	_, err := t.alter(ctx, id, fn, func(ctx context.Context, _ T) error {
		return exec(ctx, t.db, "delete from "+t.name+" where id = @id", pgx.NamedArgs{"id": id})
	})
	return err
}

func exec(ctx context.Context, db *pg.DB, sql string, args pgx.NamedArgs) error {
	_, err := db.Conn(ctx).Exec(ctx, sql, args)
	return err
}

// conditions are those of a list.
type conditions struct {
	all  []string
	args pgx.NamedArgs
}

func none() conditions { return conditions{args: pgx.NamedArgs{}} }

// add adds a condition on @name.
func (c *conditions) add(condition, name string, value any) {
	c.all = append(c.all, "("+condition+")")
	c.args[name] = value
}

func (c *conditions) where() string {
	if len(c.all) == 0 {
		return ""
	}
	return "where " + strings.Join(c.all, " and ")
}
