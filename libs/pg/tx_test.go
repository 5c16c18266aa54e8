package pg_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

var errChanged = errors.New("changed my mind")

func TestATransactionCommitsOrRollsBack(t *testing.T) {
	t.Parallel()
	db := numbers(t)
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context) error {
		require.NotNil(t, db.Tx(ctx))
		return insert(ctx, db, 1)
	}))
	require.ErrorIs(t, db.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, insert(ctx, db, 2))
		return errChanged
	}), errChanged)
	require.Panics(t, func() {
		_ = db.InTx(t.Context(), func(ctx context.Context) error {
			require.NoError(t, insert(ctx, db, 3))
			panic("oh no")
		})
	})
	require.Equal(t, []int{1}, stored(t, db))
	require.Nil(t, db.Tx(t.Context()))
	require.Zero(t, db.Pool().Stat().AcquiredConns(), "every connection is returned to the pool, also after the panic")
}

func TestATransactionWithAnIgnoredErrorFails(t *testing.T) {
	t.Parallel()
	db := numbers(t)
	err := db.InTx(t.Context(), func(ctx context.Context) error {
		_ = insert(ctx, db, 1)
		_ = insert(ctx, db, 1) // aborts the transaction
		return nil
	})
	require.ErrorContains(t, err, "commit")
	require.Empty(t, stored(t, db))
}

func TestAContextThatEndsRollsBack(t *testing.T) {
	t.Parallel()
	db := numbers(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := db.InTx(ctx, func(ctx context.Context) error {
		require.NoError(t, insert(ctx, db, 1))
		cancel()
		return ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, stored(t, db))
	require.NoError(t, insert(t.Context(), db, 1), "no lock is left")
}

func TestAnInnerTransactionJoinsTheOuter(t *testing.T) {
	t.Parallel()
	db := numbers(t)
	err := db.InTx(t.Context(), func(ctx context.Context) error {
		outer := db.Tx(ctx)
		require.NoError(t, db.InTx(ctx, func(ctx context.Context) error {
			require.Same(t, outer, db.Tx(ctx))
			return insert(ctx, db, 1)
		}))
		return errChanged
	})
	require.ErrorIs(t, err, errChanged)
	require.Empty(t, stored(t, db))
}

func TestTwoServicesInOneProcessHaveSeparateTransactions(t *testing.T) {
	t.Parallel()
	one, other := numbers(t), numbers(t)
	err := one.InTx(t.Context(), func(ctx context.Context) error {
		require.Nil(t, other.Tx(ctx))
		require.NoError(t, insert(ctx, other, 1))
		return errChanged
	})
	require.ErrorIs(t, err, errChanged)
	require.Equal(t, []int{1}, stored(t, other))
}

func TestLater(t *testing.T) {
	t.Parallel()
	db := numbers(t)
	later := func(ctx context.Context, n int) error {
		return db.Later(ctx, "add", `insert into numbers values ($1)`, n)
	}
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, later(ctx, 1))
		require.NoError(t, later(ctx, 2))
		require.Empty(t, pgtest.Column[int](t, db, `select n from numbers`))
		return db.InTx(ctx, func(ctx context.Context) error { return later(ctx, 3) })
	}))
	require.NoError(t, later(t.Context(), 4))
	require.Equal(t, []int{1, 2, 3, 4}, stored(t, db))

	require.ErrorIs(t, db.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, later(ctx, 5))
		return errChanged
	}), errChanged)
	committed := false
	err := db.InTx(t.Context(), func(ctx context.Context) error {
		db.AfterCommit(ctx, func() { committed = true })
		require.NoError(t, later(ctx, 6))
		return later(ctx, 1)
	})
	require.ErrorContains(t, err, "add: ")
	require.NotErrorIs(t, err, fault.ErrOutcomeUnknown)
	require.False(t, committed)
	require.Equal(t, []int{1, 2, 3, 4}, stored(t, db))
}

// A transaction takes a round trip for each statement whose result is read, and one for the COMMIT: BEGIN and what waits go with them.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	proxy := pgtest.NewProxy(t, numbers(t).Pool().Config().ConnString())
	db := open(t, proxy.URL())
	const read, write = `select count(*) from numbers where n <> $1`, `insert into numbers (n) values ($1)`
	last := 0
	for name, c := range map[string]struct {
		want int
		do   func(ctx context.Context, conn pg.Querier) error
	}{
		"nothing":    {0, func(context.Context, pg.Querier) error { return nil }},
		"only later": {1, func(ctx context.Context, _ pg.Querier) error { last++; return db.Later(ctx, "add", write, last) }},
		"exec": {2, func(ctx context.Context, conn pg.Querier) error {
			last++
			_, err := conn.Exec(ctx, write, last)
			return err
		}},
		"later, then a row": {2, func(ctx context.Context, conn pg.Querier) error {
			last++
			n := 0
			err := errors.Join(db.Later(ctx, "add", write, last), conn.QueryRow(ctx, read, 0).Scan(&n))
			require.Equal(t, last, n)
			return err
		}},
		"rows, then later": {2, func(ctx context.Context, conn pg.Querier) error {
			rows, err := conn.Query(ctx, read, 0)
			require.NoError(t, err)
			n, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
			require.Equal(t, last, n)
			last++
			return errors.Join(err, db.Later(ctx, "add", write, last))
		}},
	} {
		do := func() {
			require.NoError(t, db.InTx(t.Context(), func(ctx context.Context) error { return c.do(ctx, db.Conn(ctx)) }), name)
		}
		do() // prepares the statements
		before := proxy.Requests()
		do()
		require.Equal(t, c.want, proxy.Requests()-before, name)
	}
}

func TestAfterCommit(t *testing.T) {
	t.Parallel()
	db := numbers(t)
	var after []string
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context) error {
		db.AfterCommit(ctx, func() {
			require.Equal(t, []int{1}, stored(t, db), "the transaction has committed")
			after = append(after, "first")
		})
		db.AfterCommit(ctx, func() { after = append(after, "second") })
		require.Empty(t, after)
		return insert(ctx, db, 1)
	}))
	require.ErrorIs(t, db.InTx(t.Context(), func(ctx context.Context) error {
		db.AfterCommit(ctx, func() { after = append(after, "never") })
		return errChanged
	}), errChanged)
	db.AfterCommit(t.Context(), func() { after = append(after, "immediately") })
	require.Equal(t, []string{"first", "second", "immediately"}, after)
}

func TestADeadlockIsRetried(t *testing.T) {
	t.Parallel()
	db := numbers(t)
	require.NoError(t, insert(t.Context(), db, 1))
	require.NoError(t, insert(t.Context(), db, 2))
	var tries, committed atomic.Int32
	var both sync.WaitGroup // each transaction locks its first row before either requests its second
	both.Add(2)
	cross := func(first, second int) error {
		locked := sync.OnceFunc(func() { both.Done(); both.Wait() })
		return db.InTx(t.Context(), func(ctx context.Context) error {
			tries.Add(1)
			db.AfterCommit(ctx, func() { committed.Add(1) })
			for i, n := range []int{first, second} {
				if _, err := db.Conn(ctx).Exec(ctx, `update numbers set note = coalesce(note, '') || 'x' where n = $1`, n); err != nil {
					return err
				}
				if i == 0 {
					locked()
				}
			}
			return nil
		})
	}
	errs := make(chan error, 2)
	go func() { errs <- cross(1, 2) }()
	go func() { errs <- cross(2, 1) }()
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	require.Greater(t, tries.Load(), int32(2), "the deadlocked transaction was retried")
	require.Equal(t, int32(2), committed.Load(), "AfterCommit of the rolled-back attempt does not run")
	var notes string
	require.NoError(t, db.Pool().QueryRow(t.Context(), `select string_agg(note, ',') from numbers`).Scan(&notes))
	require.Equal(t, "xx,xx", notes)
}

func TestRetriesAreBounded(t *testing.T) {
	t.Parallel()
	db := numbers(t)
	tries := 0
	failure := &pgconn.PgError{Code: "40001"}
	require.ErrorIs(t, db.InTx(t.Context(), func(context.Context) error { tries++; return failure }), failure)
	require.Equal(t, 4, tries)
	tries = 0
	require.ErrorIs(t, db.InTx(t.Context(), func(context.Context) error { tries++; return errChanged }), errChanged)
	require.Equal(t, 1, tries, "other errors are not retried")
}

func TestOnlyALostAnswerToTheCommitLeavesTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text      string
		delivered bool
		unknown   bool
		want      []int
	}{
		"before the statement":      {"insert", false, false, nil},
		"before its answer":         {"insert", true, false, nil},
		"before the commit arrived": {"commit", false, true, nil},
		"before its answer came":    {"commit", true, true, []int{1}},
	} {
		direct := numbers(t)
		proxy := pgtest.NewProxy(t, direct.Pool().Config().ConnString())
		db := open(t, proxy.URL())
		proxy.CutAt("insert", c.text, c.delivered)
		err := db.InTx(t.Context(), func(ctx context.Context) error { return insert(ctx, db, 1) })
		require.Error(t, err, name)
		require.Equal(t, c.unknown, errors.Is(err, fault.ErrOutcomeUnknown), "%s: %v", name, err)
		require.True(t, fault.Is(pg.Classify(err), fault.Unavailable), "%s: %v", name, err)
		require.ElementsMatch(t, c.want, stored(t, direct), name)
	}
	for name, delivered := range map[string]bool{"before the last statements and the commit arrived": false, "before their answer came": true} {
		direct := numbers(t)
		proxy := pgtest.NewProxy(t, direct.Pool().Config().ConnString())
		db := open(t, proxy.URL())
		add := func(n int) error {
			return db.InTx(t.Context(), func(ctx context.Context) error { return db.Later(ctx, "add", `insert into numbers values ($1)`, n) })
		}
		require.NoError(t, add(1)) // prepares the statements
		proxy.CutAt("stmtcache", "stmtcache", delivered)
		err := add(2)
		require.ErrorIs(t, err, fault.ErrOutcomeUnknown, name)
		require.True(t, fault.Is(pg.Classify(err), fault.Unavailable), "%s: %v", name, err)
		require.Equal(t, delivered, len(stored(t, direct)) == 2, name)
	}
	db := numbers(t)
	err := db.InTx(t.Context(), func(ctx context.Context) error {
		_ = insert(ctx, db, 1)
		_ = insert(ctx, db, 1)
		return nil
	})
	require.NotErrorIs(t, err, fault.ErrOutcomeUnknown, "the server rolled back")
}
