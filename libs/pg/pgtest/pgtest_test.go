package pgtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func TestSchemasAreIsolated(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	one, other := connect(t, pgtest.Schema(t)), connect(t, pgtest.Schema(t))
	_, err := one.Exec(ctx, "create table things (id int)")
	require.NoError(t, err)
	_, err = other.Exec(ctx, "create table things (id int)")
	require.NoError(t, err, "the same name in another schema")

	var schema string
	require.NoError(t, one.QueryRow(ctx, "select current_schema").Scan(&schema))
	_, err = other.Exec(ctx, "select * from "+schema+".things")
	require.ErrorContains(t, err, "permission denied", "the role of one schema must not read another")
	_, err = one.Exec(ctx, "create table public.things (id int)")
	require.ErrorContains(t, err, "permission denied")
}

func TestSchemaIsDroppedWithItsRoleAndConnections(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("use a schema and leave a transaction open", func(t *testing.T) {
		url = pgtest.Schema(t)
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "begin; create table things (id int)")
		require.NoError(t, err)
	})
	_, err := pgx.Connect(t.Context(), url)
	require.ErrorContains(t, err, "28P01")
}

func TestEachTestHasItsOwnDatabase(t *testing.T) {
	t.Parallel()
	one, other := connect(t, pgtest.Database(t)), connect(t, pgtest.Database(t))
	for _, conn := range []*pgx.Conn{one, other} {
		var locked bool
		require.NoError(t, conn.QueryRow(t.Context(), "select pg_try_advisory_lock(1)").Scan(&locked))
		require.True(t, locked)
	}
}

func BenchmarkSchema(b *testing.B) {
	for b.Loop() {
		pgtest.Schema(b)
	}
}

func BenchmarkDatabase(b *testing.B) {
	for b.Loop() {
		pgtest.Database(b)
	}
}
