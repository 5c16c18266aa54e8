package pgtest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

func TestReadCountsScansAndRowsOfIndexes(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t, things("create table things (id int primary key, name text); create table other (id int);"))
	pgtest.Fill(t, db, `insert into things select n, n::text from generate_series(1, 20000) n`, `vacuum analyze things`)
	read := func(sql string) pgtest.Reads {
		return pgtest.Read(t.Context(), t, db, func(ctx context.Context) error { _, err := db.Conn(ctx).Exec(ctx, sql); return err })
	}
	whole := read(`select count(name) from things`)
	require.Equal(t, pgtest.Rows{Scanned: 20_000}, whole["things"])
	require.Equal(t, map[string]int64{"things": 20_000}, whole.Scanned("other", "thing*"))
	require.Empty(t, whole.Scanned("other", "thing"))
	one := read(`select name from things where id = 7`)
	require.Equal(t, pgtest.Rows{Fetched: 1}, one["things"])
	require.Empty(t, one.Scanned("*"))
	require.Contains(t, pgtest.Explain(t, db, `select name from things where id = $1`, 7), "Index Scan")
}
