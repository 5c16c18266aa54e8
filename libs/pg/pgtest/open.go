package pgtest

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const maxConns = 6

// Open connects to an empty schema, or to one with the migrations applied. It is dropped when the test ends.
func Open(t testing.TB, sets ...pg.Migrations) *pg.DB {
	t.Helper()
	schema := Schema
	if len(sets) > 0 {
		schema = func(t testing.TB) string { return Migrated(t, sets...) }
	}
	db, err := pg.Open(t.Context(), pg.Config{URL: conf.Secret(schema(t)), MaxConns: maxConns}, "unused", telemetry.Nop())
	require.NoError(t, err)
	t.Cleanup(db.Close)
	require.NoError(t, db.Migrate(t.Context(), sets...))
	return db
}

// Fill executes statements that write or analyze so many rows that a busy machine needs longer than the statement timeout.
func Fill(t testing.TB, db *pg.DB, statements ...string) {
	t.Helper()
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for _, sql := range slices.Concat([]string{"set statement_timeout = 0"}, statements, []string{"reset statement_timeout"}) {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

// Column returns the values of a query with one column.
func Column[T any](t testing.TB, db *pg.DB, sql string, args ...any) []T {
	t.Helper()
	rows, err := db.Conn(context.WithoutCancel(t.Context())).Query(context.WithoutCancel(t.Context()), sql, args...)
	require.NoError(t, err)
	defer rows.Close()
	var values []T
	for rows.Next() {
		var v T
		require.NoError(t, rows.Scan(&v))
		values = append(values, v)
	}
	require.NoError(t, rows.Err())
	return values
}
