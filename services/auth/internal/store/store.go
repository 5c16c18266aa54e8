// Package store keeps agents, sessions, failed logins and sealed signing keys in PostgreSQL. It owns the tables of the schema
// auth and writes each change of an agent together with its events.
package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables.
func Migrations() pg.Migrations {
	sub, _ := fs.Sub(files, "migrations") // the name is right: the embed directive says so
	return pg.Migrations{Name: "auth", FS: sub}
}

// list reads a page of a select that ends in its conditions, newest first.
func list[T any](ctx context.Context, db *pg.DB, sql string, args pgx.NamedArgs, limit, skip int, cursor string,
	scan func(pgx.Row) (T, error), position func(T) pg.Cursor,
) (items []T, next string, err error) {
	if cursor != "" {
		c, err := pg.DecodeCursor(cursor)
		if err != nil {
			return nil, "", err
		}
		sql += ` and (created_at, id) < (@at, @after)`
		args["at"], args["after"] = c.At, c.ID
	}
	args["limit"], args["skip"] = limit+1, skip
	rows, err := db.Conn(ctx).Query(ctx, sql+` order by created_at desc, id desc limit @limit offset @skip`, args)
	if err != nil {
		return nil, "", err
	}
	items, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (T, error) { return scan(row) })
	if err != nil {
		return nil, "", err
	}
	if len(items) > limit {
		items = items[:limit]
		next = position(items[limit-1]).Encode()
	}
	return items, next, nil
}

// batch is how many rows one statement of Sweep deletes at most: it holds its locks for milliseconds.
const batch = 1000

// Sweep deletes what has no effect any more: sessions that cannot be renewed and whose last access token, which lived for
// tokenTTL, is dead; and failed logins that no longer count.
func Sweep(ctx context.Context, db *pg.DB, now time.Time, tokenTTL time.Duration) error {
	for _, dead := range []struct {
		what, sql string
		args      []any
	}{
		{"sessions", `delete from sessions where id in (select id from sessions where (created_at < $1 or last_used_at < $2) and last_used_at < $3 limit $4)`,
			[]any{now.Add(-agent.MaxLife), now.Add(-agent.MaxIdle), now.Add(-tokenTTL - time.Minute), batch}},
		{"failed logins", `delete from login_failures where key in (select key from login_failures where last_at < $1 limit $2 for update skip locked)`,
			[]any{now.Add(-agent.FailureWindow), batch}},
	} {
		for left := true; left; {
			tag, err := db.Conn(ctx).Exec(ctx, dead.sql, dead.args...)
			if err != nil {
				return fmt.Errorf("delete old %s: %w", dead.what, err)
			}
			left = tag.RowsAffected() == batch
		}
	}
	return nil
}
