package pg_test

import (
	"context"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

// indexed is a set with a table and an index that is built concurrently.
func indexed(statement string) pg.Migrations {
	s := set("things", map[string]string{"0001_things.sql": `create table things (id int);`, "0003_other.sql": `create table others (id int);`})
	s.FS.(fstest.MapFS)["0002_index.sql"] = &fstest.MapFile{Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\n-- Found by its id.\n" + statement)}
	return s
}

const createIndex = "create index concurrently if not exists things_id on things (id);"

// begin begins a transaction that ends with the test at the latest.
func begin(t *testing.T, db *pg.DB) pgx.Tx {
	tx, err := db.Pool().Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	return tx
}

func requireValid(t *testing.T, db *pg.DB) {
	var valid bool
	require.NoError(t, db.Pool().QueryRow(t.Context(), `select indisvalid from pg_index where indexrelid = 'things_id'::regclass`).Scan(&valid))
	require.True(t, valid)
}

// With the lock timeout of requests, the build fails after 5 s and leaves an invalid index, which the next attempt takes for a good one.
func TestAnIndexIsBuiltWhileATransactionIsOpenForLongerThanTheLockTimeout(t *testing.T) {
	t.Parallel()
	url := pgtest.Schema(t)
	db, other := open(t, url), open(t, url)
	require.NoError(t, db.Migrate(t.Context(), set("things", map[string]string{"0001_things.sql": `create table things (id int);`})))
	long := begin(t, other)
	_, err := long.Exec(t.Context(), "insert into things values (1)") // holds the table's lock and an id
	require.NoError(t, err)

	migrated := make(chan error, 1)
	go func() { migrated <- db.Migrate(t.Context(), indexed(createIndex)) }()
	select {
	case err := <-migrated:
		t.Fatalf("the build did not wait for the open transaction: %v", err)
	case <-time.After(7 * time.Second): // longer than the lock timeout of 5 s
	}
	_, err = other.Pool().Exec(t.Context(), "insert into things values (2)")
	require.NoError(t, err, "nobody is blocked by a build that waits")
	require.NoError(t, long.Commit(t.Context()))
	require.NoError(t, <-migrated)
	requireValid(t, db)
	_, err = db.Pool().Exec(t.Context(), "select from others")
	require.NoError(t, err, "later files run too")
	require.NoError(t, db.Migrate(t.Context(), indexed(createIndex)))
}

func TestABuildThatWasInterruptedIsRepeated(t *testing.T) {
	t.Parallel()
	url := pgtest.Schema(t)
	db := open(t, url)
	require.NoError(t, db.Migrate(t.Context(), set("things", map[string]string{"0001_things.sql": `create table things (id int);`})))
	long := begin(t, open(t, url))
	_, err := long.Exec(t.Context(), "insert into things values (1)")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	migrated := make(chan error, 1)
	go func() { migrated <- db.Migrate(ctx, indexed(createIndex)) }()
	var invalid bool
	require.Eventually(t, func() bool {
		err := db.Pool().QueryRow(t.Context(), `select not indisvalid from pg_index i join pg_class c on c.oid = i.indexrelid where c.relname = 'things_id' and c.relnamespace = current_schema()::regnamespace`).Scan(&invalid)
		return err == nil && invalid
	}, time.Minute, 20*time.Millisecond, "the build has begun")
	cancel()
	require.Error(t, <-migrated)
	require.NoError(t, long.Rollback(t.Context()))

	pending, _, err := db.Pending(t.Context(), indexed(createIndex))
	require.NoError(t, err)
	require.Equal(t, []string{"things/0002_index.sql", "things/0003_other.sql"}, pending)
	require.NoError(t, db.Migrate(t.Context(), indexed(createIndex)))
	requireValid(t, db)
	removed := indexed(createIndex)
	removed.FS.(fstest.MapFS)["0004_no_index.sql"] = &fstest.MapFile{Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\ndrop index concurrently if exists things_id;")}
	require.NoError(t, db.Migrate(t.Context(), removed))
	var exists bool
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select to_regclass('things_id') is not null").Scan(&exists))
	require.False(t, exists)
	pending, unknown, err := db.Pending(t.Context(), set("things", map[string]string{"0001_things.sql": ``, "0002_index.sql": ``}))
	require.NoError(t, err)
	require.Empty(t, pending)
	require.ElementsMatch(t, []string{"things/0003", "things/0004"}, unknown, "of a newer version")
}

func TestAFileWithoutATransactionOnlyBuildsAnIndex(t *testing.T) {
	t.Parallel()
	db := open(t, pgtest.Schema(t))
	for _, statement := range []string{
		"create index concurrently things_id on things (id);",
		"create index if not exists things_id on things (id);",
		createIndex + " drop table things;",
		"update things set id = 1;",
	} {
		require.ErrorContains(t, db.Migrate(t.Context(), indexed(statement)), "exactly one", statement)
	}
}
