package pg_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func open(t *testing.T, url string) *pg.DB {
	t.Helper()
	db, err := pg.Open(t.Context(), pg.Config{URL: conf.Secret(url), MaxConns: 5}, "unused", telemetry.Nop())
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db
}

// numbers opens a schema with one table of distinct numbers.
func numbers(t *testing.T) *pg.DB {
	t.Helper()
	db := open(t, pgtest.Schema(t))
	_, err := db.Pool().Exec(t.Context(), `create table numbers (n int constraint numbers_once primary key, note text)`)
	require.NoError(t, err)
	return db
}

func insert(ctx context.Context, db *pg.DB, n int) error {
	_, err := db.Conn(ctx).Exec(ctx, `insert into numbers (n) values ($1)`, n)
	return err
}

func stored(t *testing.T, db *pg.DB) []int {
	t.Helper()
	rows, err := db.Pool().Query(t.Context(), `select n from numbers order by n`)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	return all
}
