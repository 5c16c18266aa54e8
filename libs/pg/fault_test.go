package pg_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestDatabaseErrorsAreClassified(t *testing.T) {
	t.Parallel()
	const unavailable, internal = 503, 500
	tests := map[string]struct {
		fail   func(t *testing.T, db *pg.DB) error
		status int
	}{
		"statement timeout": {func(t *testing.T, db *pg.DB) error {
			return db.InTx(t.Context(), func(ctx context.Context) error {
				_, err := db.Conn(ctx).Exec(ctx, `set local statement_timeout = 20`)
				require.NoError(t, err)
				_, err = db.Conn(ctx).Exec(ctx, `select pg_sleep(60)`)
				return err
			})
		}, unavailable},
		"lock timeout": {func(t *testing.T, db *pg.DB) error {
			return db.InTx(t.Context(), func(ctx context.Context) error {
				require.NoError(t, insert(ctx, db, 1))
				return db.InTx(t.Context(), func(ctx context.Context) error { // a second transaction that waits for the first
					_, err := db.Conn(ctx).Exec(ctx, `set local lock_timeout = 20`)
					require.NoError(t, err)
					return insert(ctx, db, 1)
				})
			})
		}, unavailable},
		"connection cut": {func(t *testing.T, db *pg.DB) error {
			return db.InTx(t.Context(), func(ctx context.Context) error {
				_, err := db.Conn(ctx).Exec(ctx, `select pg_terminate_backend(pg_backend_pid())`)
				return err
			})
		}, unavailable},
		"connection cut between statements": {func(t *testing.T, db *pg.DB) error {
			return db.InTx(t.Context(), func(ctx context.Context) error {
				_, err := db.Pool().Exec(ctx, `select pg_terminate_backend($1)`, db.Tx(ctx).Conn().PgConn().PID())
				require.NoError(t, err)
				return insert(ctx, db, 1)
			})
		}, unavailable},
		"disk full": {func(t *testing.T, db *pg.DB) error {
			_, err := db.Pool().Exec(t.Context(), `do $$ begin raise exception 'full' using errcode = '53100'; end $$`)
			return err
		}, unavailable},
		"read-only standby": {func(t *testing.T, db *pg.DB) error {
			return db.InTx(t.Context(), func(ctx context.Context) error {
				_, err := db.Conn(ctx).Exec(ctx, `set transaction read only`)
				require.NoError(t, err)
				return insert(ctx, db, 1)
			})
		}, unavailable},
		"pool closed": {func(t *testing.T, db *pg.DB) error { db.Close(); return insert(t.Context(), db, 1) }, unavailable},
		"no server":   {func(t *testing.T, _ *pg.DB) error { return unreachable(t) }, unavailable},
		"deadline":    {func(t *testing.T, db *pg.DB) error { return deadline(t, db) }, 504},
		"unique": {func(t *testing.T, db *pg.DB) error {
			return errors.Join(insert(t.Context(), db, 1), insert(t.Context(), db, 1))
		}, internal},
		"wrong SQL": {func(t *testing.T, db *pg.DB) error { _, err := db.Pool().Exec(t.Context(), `selekt`); return err }, internal},
		"no rows": {func(t *testing.T, db *pg.DB) error {
			err := db.Pool().QueryRow(t.Context(), `select n from numbers where n = 7`).Scan(new(int))
			require.True(t, pg.NoRows(fmt.Errorf("find: %w", err)))
			return err
		}, internal},
		"a fault": {func(*testing.T, *pg.DB) error { return fault.New(fault.NotFound, "x", "X") }, 404},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := numbers(t)
			cause := tt.fail(t, db)
			require.Error(t, cause)
			err := pg.Classify(fmt.Errorf("save: %w", cause))
			require.Equal(t, tt.status, fault.Status(err), "%v (%T)", cause, cause)
			require.ErrorIs(t, err, cause)
			if tt.status == unavailable {
				f := fault.Of(err)
				require.Equal(t, "database_unavailable", f.Code)
				require.Positive(t, f.RetryAfter)
				require.NotContains(t, f.Detail, "numbers", "the client sees no SQL")
			}
		})
	}
	require.NoError(t, pg.Classify(nil))
	require.Equal(t, context.Canceled, pg.Classify(context.Canceled))
}

func unreachable(t *testing.T) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	pool, err := pgxpool.New(t.Context(), "postgres://a:hunter2@"+addr+"/x")
	require.NoError(t, err)
	defer pool.Close()
	err = pool.Ping(t.Context())
	require.NotContains(t, err.Error(), "hunter2")
	return err
}

func deadline(t *testing.T, db *pg.DB) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := db.Pool().Exec(ctx, `select pg_sleep(60)`)
	return err
}

func TestUniqueMatchesTheConstraint(t *testing.T) {
	t.Parallel()
	db := numbers(t)
	require.NoError(t, insert(t.Context(), db, 1))
	err := fmt.Errorf("create: %w", insert(t.Context(), db, 1))
	require.True(t, pg.Unique(err, "numbers_once"))
	require.False(t, pg.Unique(err, "numbers_other"))
	require.False(t, pg.Unique(nil, "numbers_once"))
	require.False(t, pg.Unique(pgx.ErrNoRows, "numbers_once"))
}

func TestAPoolReconnects(t *testing.T) {
	t.Parallel()
	db := numbers(t)
	require.NoError(t, insert(t.Context(), db, 1))
	_, _ = db.Pool().Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity where usename = current_user`)
	require.Eventually(t, func() bool { return db.Ping(t.Context()) == nil }, time.Minute, 5*time.Millisecond)
	require.Equal(t, []int{1}, stored(t, db))
}

func TestInvalidDatabaseSettings(t *testing.T) {
	t.Parallel()
	require.Len(t, pg.Config{}.Check(), 2)
	require.Empty(t, pg.Config{URL: "postgres://a:b@c/d", MaxConns: 2}.Check())
	problems := pg.Config{URL: "postgres://a:hunter2@c:notaport/d", MaxConns: 5}.Check()
	require.Len(t, problems, 1)
	require.NotContains(t, problems[0], "hunter2")
}

func TestAWrongPasswordFailsImmediately(t *testing.T) {
	t.Parallel()
	url := pgtest.Schema(t)
	good, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	wrong := strings.Replace(url, "postgres://"+good.User+":"+good.Password, "postgres://"+good.User+":hunter2", 1)
	require.NotEqual(t, url, wrong)
	wrong = strings.Replace(wrong, "postgres://"+good.User, "postgres://nobody", 1)
	_, err = pg.Open(t.Context(), pg.Config{URL: conf.Secret(wrong), MaxConns: 2}, "x", telemetry.Nop())
	require.ErrorContains(t, err, "SQLSTATE 28")
	require.NotContains(t, err.Error(), "hunter2")
	_, err = pg.Open(t.Context(), pg.Config{URL: "postgres://a:hunter2@c:notaport/d"}, "x", telemetry.Nop())
	require.ErrorContains(t, err, "DATABASE_URL")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestEachConnectionHasItsTimeouts(t *testing.T) {
	t.Parallel()
	db := numbers(t)
	for setting, want := range map[string]string{"search_path": db.Schema(), "statement_timeout": "15s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "30s", "TimeZone": "UTC", "application_name": "convoflow-test"} {
		var got string
		require.NoError(t, db.Pool().QueryRow(t.Context(), `select current_setting($1)`, setting).Scan(&got))
		require.Equal(t, want, got, setting)
	}
	var e *pgconn.PgError
	require.NotErrorAs(t, db.Ping(t.Context()), &e)
}
