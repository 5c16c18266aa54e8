package pgtest

import (
	"context"
	"path"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg"
)

// Reads is what was read of each table, by its name, for a test that no statement reads a whole table.
type Reads map[string]Rows

// Rows counts the rows that were read of one table.
type Rows struct {
	Scanned int64 // by sequential scans
	Fetched int64 // through indexes; what an index alone answers is not counted
}

// Read returns what do reads in a transaction, that of ctx if it has one, as PostgreSQL counts it. Fill the tables and analyze them first.
//
// The tables of a test are small enough to be read as a whole instead of by thousands of random pages. With millions of rows that
// never pays, as here with cheap random pages. Parallel workers are off, because PostgreSQL does not count for the transaction what
// they read.
func Read(ctx context.Context, t testing.TB, db *pg.DB, do func(ctx context.Context) error) Reads {
	t.Helper()
	reads := Reads{}
	require.NoError(t, db.InTx(ctx, func(ctx context.Context) error {
		if _, err := db.Conn(ctx).Exec(ctx, `set local random_page_cost = 1.1; set local max_parallel_workers_per_gather = 0`); err != nil {
			return err
		}
		before, err := counted(ctx, db)
		if err != nil {
			return err
		}
		if err := do(ctx); err != nil {
			return err
		}
		after, err := counted(ctx, db)
		for name, rows := range after {
			reads[name] = Rows{rows.Scanned - before[name].Scanned, rows.Fetched - before[name].Fetched}
		}
		return err
	}))
	return reads
}

func counted(ctx context.Context, db *pg.DB) (Reads, error) {
	rows, err := db.Conn(ctx).Query(ctx, `select relname::text, coalesce(seq_tup_read, 0), coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables where schemaname = current_schema()`)
	if err != nil {
		return nil, err
	}
	var name string
	var n Rows
	counts := Reads{}
	_, err = pgx.ForEachRow(rows, []any{&name, &n.Scanned, &n.Fetched}, func() error { counts[name] = n; return nil })
	return counts, err
}

// Scanned returns how many rows of tables were read by sequential scans, of those tables of which some were. tables are patterns of
// path.Match, such as deliveries* for a table with partitions.
func (r Reads) Scanned(tables ...string) map[string]int64 {
	scanned := map[string]int64{}
	for name, rows := range r {
		for _, pattern := range tables {
			if ok, _ := path.Match(pattern, name); ok && rows.Scanned > 0 {
				scanned[name] = rows.Scanned
			}
		}
	}
	return scanned
}

// Explain returns the plan of a statement.
func Explain(t testing.TB, db *pg.DB, sql string, args ...any) string {
	t.Helper()
	return strings.Join(Column[string](t, db, "explain "+sql, args...), "\n")
}
