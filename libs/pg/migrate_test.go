package pg_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

func set(name string, files map[string]string) pg.Migrations {
	fs := fstest.MapFS{}
	for file, sql := range files {
		fs[file] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + sql)}
	}
	return pg.Migrations{Name: name, FS: fs}
}

func TestReplicasThatStartTogetherMigrateOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.Schema(t)
	things := set("things", map[string]string{
		"0001_things.sql": `create table things (id int);`,
		"0002_fill.sql":   `insert into things select 1 from pg_sleep(0.05);`,
	})
	parts := set("parts", map[string]string{"0001_parts.sql": `create table parts (id int);`}) // with its own version numbers
	extras := 0
	parts.Extra = func(ctx context.Context, db *pg.DB) error {
		extras++ // the lock serializes this
		_, err := db.Pool().Exec(ctx, `create table if not exists extra (id int)`)
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for range cap(errs) {
		db := open(t, url)
		wg.Go(func() { errs <- db.Migrate(t.Context(), things, parts) })
	}
	wg.Wait()
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.Equal(t, 4, extras)
	db := open(t, url)
	var rows, version int
	require.NoError(t, db.Pool().QueryRow(t.Context(), `select (select count(*) from things), (select max(version_id) from migrations_things)`).Scan(&rows, &version))
	require.Equal(t, 1, rows)
	require.Equal(t, 2, version)
}

func TestAMigrationThatFailsChangesNothingAndCanBeRepeated(t *testing.T) {
	t.Parallel()
	db := open(t, pgtest.Schema(t))
	bad := set("things", map[string]string{"0001_things.sql": `create table things (id int); selekt;`})
	require.ErrorContains(t, db.Migrate(t.Context(), bad), "migrate things")
	failing := pg.Migrations{Name: "extra", Extra: func(context.Context, *pg.DB) error { return errors.New("broken") }}
	require.ErrorContains(t, db.Migrate(t.Context(), failing), "migrate extra: broken")
	good := set("things", map[string]string{"0001_things.sql": `create table things (id int);`})
	require.NoError(t, db.Migrate(t.Context(), good), "the lock is free and the table does not exist")
	require.NoError(t, db.Migrate(t.Context(), good))
}

func TestAnIndexIsBuiltConcurrentlyWhileOthersWaitToMigrate(t *testing.T) {
	t.Parallel()
	url := pgtest.Schema(t)
	files := set("things", map[string]string{"0001_things.sql": `create table things (id int);`})
	files.FS.(fstest.MapFS)["0002_index.sql"] = &fstest.MapFile{Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently if not exists things_id on things (id);")}
	var wg sync.WaitGroup
	for range 2 {
		db := open(t, url)
		wg.Go(func() {
			if err := db.Migrate(t.Context(), files); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestAMissingSchemaIsCreated(t *testing.T) {
	t.Parallel()
	db := open(t, pgtest.Database(t)) // as superuser and without a search_path, so the service's schema is used
	require.Equal(t, "unused", db.Schema())
	require.NoError(t, db.Migrate(t.Context(), set("things", map[string]string{"0001_things.sql": `create table things (id int);`})))
	var schema string
	require.NoError(t, db.Pool().QueryRow(t.Context(), `select schemaname from pg_tables where tablename = 'things'`).Scan(&schema))
	require.Equal(t, "unused", schema)
}

func TestMigrateStopsWaitingWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	url := pgtest.Schema(t)
	inside, leave := make(chan struct{}), make(chan struct{})
	holder := open(t, url)
	done := make(chan error, 1)
	go func() {
		done <- holder.Migrate(t.Context(), pg.Migrations{Name: "slow", Extra: func(context.Context, *pg.DB) error { close(inside); <-leave; return nil }})
	}()
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, open(t, url).Migrate(ctx), context.DeadlineExceeded)
	close(leave)
	require.NoError(t, <-done)
}

func TestAnotherReplicaLeadsWhenTheLeadersConnectionIsCut(t *testing.T) {
	t.Parallel()
	url := pgtest.Schema(t)
	first, second := open(t, url), open(t, url)
	conn, release, err := first.Lead(t.Context(), "outbox")
	require.NoError(t, err)
	defer release()

	_, releaseOther, err := second.Lead(t.Context(), "another name")
	require.NoError(t, err)
	releaseOther()
	waiting, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _, err = second.Lead(waiting, "outbox")
	require.ErrorIs(t, err, context.DeadlineExceeded, "there already is a leader")

	led := make(chan func(), 1)
	go func() {
		_, release, err := second.Lead(t.Context(), "outbox")
		if err != nil {
			t.Error(err)
			release = func() {}
		}
		led <- release
	}()
	_, err = first.Pool().Exec(t.Context(), `select pg_terminate_backend($1)`, conn.PgConn().PID())
	require.NoError(t, err)
	releaseSecond := <-led
	_, err = conn.Exec(t.Context(), `select 1`)
	require.Error(t, err, "a leader that lost the lock has lost its connection too")
	releaseSecond()
	_, release, err = first.Lead(t.Context(), "outbox")
	require.NoError(t, err, "a released lock can be acquired again")
	release()
}

func TestEachSchemaHasItsOwnLeader(t *testing.T) {
	t.Parallel()
	for range 2 {
		_, release, err := open(t, pgtest.Schema(t)).Lead(t.Context(), "outbox")
		require.NoError(t, err)
		t.Cleanup(release)
	}
}

func TestMigrationsOfBranchesAreMergedInAnyOrder(t *testing.T) {
	t.Parallel()
	db := open(t, pgtest.Schema(t))
	files := map[string]string{"0001_things.sql": `create table things (id int);`, "0003_later.sql": `create table later (id int);`}
	require.NoError(t, db.Migrate(t.Context(), set("things", files)))
	files["0002_between.sql"] = `create table between_them (id int);`
	require.NoError(t, db.Migrate(t.Context(), set("things", files)))
	_, err := db.Pool().Exec(t.Context(), `select from between_them, later`)
	require.NoError(t, err)
}
