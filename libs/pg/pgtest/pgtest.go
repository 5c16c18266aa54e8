// Package pgtest provides a real PostgreSQL server for tests. It starts a temporary server per test binary, or uses the one that
// TEST_DATABASE_URL names: scripts/test shares one server between all test binaries. It refuses to skip tests: without
// PostgreSQL they fail, and the message says what to install.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestStore(t *testing.T) {
//		t.Parallel()
//		db := open(t, pgtest.Schema(t)) // an empty schema, with a role that can access nothing else
//	}
//
// All schemas of Schema are in one database. Advisory locks and extensions belong to a database, so a test that uses a fixed lock
// key or creates an extension needs a database of its own: Database. A test of migrated tables gets one from Open or Migrated.
package pgtest

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg/pgtest/temporary"
)

const (
	dropTimeout = 2 * time.Minute
)

// Main runs the tests of a package with a server, and exits. Interrupting the test binary also stops the server.
func Main(m *testing.M) {
	os.Exit(temporary.Run(m.Run))
}

// Schema creates an empty schema and a role that owns it and can access nothing else. It returns a connection string for that
// role, with the schema as its search_path. Both are dropped when the test ends; open connections are terminated.
func Schema(t testing.TB) string {
	t.Helper()
	name := newName()
	id := pgx.Identifier{name}.Sanitize()
	execute(t, "create role "+id+" login password '"+name+"'", "create schema "+id+" authorization "+id)
	t.Cleanup(func() {
		execute(t,
			"select pg_terminate_backend(pid) from pg_stat_activity where usename = '"+name+"'",
			"drop schema "+id+" cascade", "drop role "+id)
	})
	return schemaURL(serverURL(t), name)
}

// schemaURL returns the connection string of a schema's role, which has the same name.
func schemaURL(u *url.URL, name string) string {
	u.User = url.UserPassword(name, name)
	return withParameter(u, "search_path", name)
}

// Database creates an empty database and returns the superuser's connection string for it. It is dropped when the test ends.
// A schema is several times cheaper.
func Database(t testing.TB) string {
	t.Helper()
	name := newName()
	id := pgx.Identifier{name}.Sanitize()
	execute(t, "create database "+id)
	t.Cleanup(func() { execute(t, "drop database "+id+" with (force)") })
	return databaseURL(t, name).String()
}

func newName() string { return "t_" + strings.ToLower(rand.Text()[:16]) }

func withParameter(u *url.URL, key, value string) string {
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = q.Encode()
	return u.String()
}

func serverURL(t testing.TB) *url.URL {
	t.Helper()
	value := os.Getenv(temporary.URLVariable)
	if value == "" {
		t.Fatalf("%s is not set: the package needs `func TestMain(m *testing.M) { pgtest.Main(m) }`", temporary.URLVariable)
	}
	u, err := url.Parse(value)
	if err != nil {
		t.Fatalf("%s is not a URL", temporary.URLVariable)
	}
	return u
}

// execute runs statements as the superuser, one by one. It also works in cleanups, after t.Context has ended.
func execute(t testing.TB, statements ...string) {
	t.Helper()
	asSuperuser(t, serverURL(t), func(ctx context.Context, conn *pgx.Conn) { run(ctx, t, conn, statements...) })
}

// asSuperuser calls f with a connection to the database that u names.
func asSuperuser(t testing.TB, u *url.URL, f func(ctx context.Context, conn *pgx.Conn)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), dropTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, u.String())
	if err != nil {
		t.Fatalf("connect to the test server: %v", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	f(ctx, conn)
}

func run(ctx context.Context, t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}
