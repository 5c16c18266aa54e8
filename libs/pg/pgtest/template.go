package pgtest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// templateLock is the advisory lock of who makes a template. Other uses of the server's own database have hashed keys.
const templateLock = 1

// Migrated creates a database whose only schema has the migrations applied, and a role that owns the schema and can access nothing
// else. It returns a connection string like that of Schema. Both are dropped when the test ends; open connections are terminated.
//
// The database is a copy of a template, which the first test on the server that needs these migrations makes: to copy it takes a
// tenth of the time. A service that starts on the copy looks for migrations as always and finds none.
func Migrated(t testing.TB, sets ...pg.Migrations) string {
	t.Helper()
	name, template := newName(), templateName(t, sets)
	id, from := pgx.Identifier{name}.Sanitize(), pgx.Identifier{template}.Sanitize()
	asSuperuser(t, serverURL(t), func(ctx context.Context, conn *pgx.Conn) {
		if !isComplete(ctx, t, conn, template) {
			makeTemplate(ctx, t, conn, template, sets)
		}
		create := "create database " + id + " template " + from
		if conn.PgConn().ParameterStatus("server_version") >= "15" {
			create += " strategy file_copy" // before 15 there is no other; through the log it takes twice as long
		}
		run(ctx, t, conn, "create role "+id+" login password '"+name+"'", create)
	})
	t.Cleanup(func() { execute(t, "drop database "+id+" with (force)", "drop role "+id) })
	u := databaseURL(t, name)
	asSuperuser(t, u, func(ctx context.Context, conn *pgx.Conn) {
		run(ctx, t, conn, "alter schema "+from+" rename to "+id+"; reassign owned by "+from+" to "+id)
	})
	return schemaURL(u, name)
}

// templateName derives the name of a template from the files of the migrations.
func templateName(t testing.TB, sets []pg.Migrations) string {
	t.Helper()
	h := sha256.New()
	for _, set := range sets {
		_, _ = fmt.Fprintln(h, set.Name, set.Extra != nil)
		if set.FS == nil {
			continue
		}
		require.NoError(t, fs.WalkDir(set.FS, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := fs.ReadFile(set.FS, name)
			_, _ = fmt.Fprintln(h, name, len(content))
			_, _ = h.Write(content)
			return err
		}))
	}
	return fmt.Sprintf("template_%x", h.Sum(nil)[:8])
}

// isComplete reports whether a template exists and is migrated: from then on it accepts no connections.
func isComplete(ctx context.Context, t testing.TB, conn *pgx.Conn, template string) (complete bool) {
	t.Helper()
	require.NoError(t, conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1 and not datallowconn)", template).Scan(&complete))
	return complete
}

// makeTemplate creates a template unless another test does so meanwhile. One that was not finished is discarded.
func makeTemplate(ctx context.Context, t testing.TB, conn *pgx.Conn, template string, sets []pg.Migrations) {
	t.Helper()
	run(ctx, t, conn, fmt.Sprintf("select pg_advisory_lock(%d)", templateLock))
	defer func() { _, _ = conn.Exec(ctx, "select pg_advisory_unlock($1)", templateLock) }()
	if isComplete(ctx, t, conn, template) {
		return
	}
	id := pgx.Identifier{template}.Sanitize()
	run(ctx, t, conn, "drop database if exists "+id+" with (force)", "drop role if exists "+id,
		"create role "+id+" login password '"+template+"'", "create database "+id)
	u := databaseURL(t, template)
	asSuperuser(t, u, func(ctx context.Context, conn *pgx.Conn) { run(ctx, t, conn, "create schema "+id+" authorization "+id) })
	db, err := pg.Open(ctx, pg.Config{URL: conf.Secret(schemaURL(u, template)), MaxConns: maxConns}, "unused", telemetry.Nop())
	require.NoError(t, err)
	err = db.Migrate(ctx, sets...)
	db.Close()
	require.NoError(t, err)
	run(ctx, t, conn, "alter database "+id+" allow_connections false")
}

func databaseURL(t testing.TB, name string) *url.URL {
	t.Helper()
	u := serverURL(t)
	u.Path = "/" + name
	return u
}
