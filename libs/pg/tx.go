package pg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/network"
)

// txKey is per DB, so that the services of one process do not use each other's transactions.
type txKey struct{ db *DB }

// transaction begins with its first statement.
type transaction struct {
	conn  *pgx.Conn
	tx    pgx.Tx      // nil before it has begun
	later []statement // of Later
	after []func()

	refused   error // of Tx, which returns none
	committed bool
}

// attempts is how often InTx runs a transaction that fails with a serialization failure or deadlock.
const attempts = 4

// InTx runs fn in a transaction, and commits it when fn returns nil. The transaction is in fn's context, so that every store
// called with that context uses it. A nested InTx joins the outer transaction. After a serialization failure or deadlock fn
// runs again, up to 4 times in all, so fn must have no side effects outside the database. Network clients refuse to be called
// from fn (libs/network). If the answer to the COMMIT is lost, the error has fault.ErrOutcomeUnknown in its chain.
func (db *DB) InTx(ctx context.Context, fn func(ctx context.Context) error) error {
	if _, ok := ctx.Value(txKey{db}).(*transaction); ok {
		return fn(ctx)
	}
	for attempt := 1; ; attempt++ {
		err := db.once(ctx, fn)
		if err == nil || attempt == attempts || !conflicted(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(rand.IntN(10*attempt)) * time.Millisecond):
		}
	}
}

func (db *DB) once(ctx context.Context, fn func(ctx context.Context) error) (err error) {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	defer conn.Release() // which closes a connection whose transaction has not ended
	t := &transaction{conn: conn.Conn()}
	// After an error or a panic the transaction is rolled back, even when ctx has ended.
	defer func() {
		if t.committed || t.tx == nil {
			return
		}
		rollback, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if rbErr := t.tx.Rollback(rollback); rbErr != nil && !errors.Is(rbErr, pgx.ErrTxClosed) && err == nil {
			err = rbErr
		}
	}()
	if err := fn(network.Forbid(context.WithValue(ctx, txKey{db}, t))); err != nil {
		if t.refused != nil {
			err = errors.Join(t.refused, err)
		}
		return err
	}
	if err := t.commit(ctx); err != nil {
		return err
	}
	for _, f := range t.after {
		f()
	}
	return nil
}

// commit executes the statements of Later and the COMMIT, in one round trip. When a statement fails, the server skips those after it,
// and so the COMMIT.
func (t *transaction) commit(ctx context.Context) error {
	sent := ctx.Err() == nil && !t.conn.IsClosed()
	refused, err := t.execCommit(ctx)
	if err != nil && sent && !refused && !rolledBack(err) {
		err = errors.Join(fault.ErrOutcomeUnknown, err)
	}
	t.committed = err == nil
	return err
}

// execCommit reports with its error whether the server has refused a statement before the COMMIT.
func (t *transaction) execCommit(ctx context.Context) (refused bool, err error) {
	if len(t.later) == 0 {
		if t.tx == nil { // nothing was executed
			return false, nil
		}
		if err := t.tx.Commit(ctx); err != nil {
			return false, fmt.Errorf("commit: %w", err)
		}
		return false, nil
	}
	results, err := t.send(ctx, statement{sql: "commit"})
	if err != nil {
		return errors.As(err, new(*pgconn.PgError)), err
	}
	defer func() { err = errors.Join(err, results.Close()) }()
	tag, err := results.Exec()
	if err == nil && tag.String() == "ROLLBACK" {
		err = pgx.ErrTxCommitRollback
	}
	if err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	return false, nil
}

// rolledBack reports whether the server answered a COMMIT with a rollback. pgconn.SafeToRetry does not tell whether the COMMIT was
// sent: pgx hides the error of a lost answer behind "conn closed", which SafeToRetry takes for a statement that was not sent.
func rolledBack(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && !transient(refused.Code) || errors.Is(err, pgx.ErrTxCommitRollback)
}

// Tx returns the transaction in ctx, for libraries that need one. It is nil outside InTx. If it cannot begin, what is executed in it
// fails, and InTx with the reason.
func (db *DB) Tx(ctx context.Context) pgx.Tx {
	if t, ok := ctx.Value(txKey{db}).(*transaction); ok {
		if err := t.execLater(ctx); err != nil {
			t.refused = err
		}
		return t.tx
	}
	return nil
}

// Later executes a statement at the latest possible time: before the next one of the transaction in ctx that is executed immediately, or
// before the commit, in one round trip with all others that wait for that. It is for statements whose result nobody needs. If it fails,
// what comes next fails with its error, and the transaction is rolled back. what says what it does, for the error. Without a transaction
// it is executed immediately.
func (db *DB) Later(ctx context.Context, what, sql string, args ...any) error {
	if t, ok := ctx.Value(txKey{db}).(*transaction); ok {
		t.later = append(t.later, statement{what, sql, args})
		return nil
	}
	if _, err := db.pool.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// AfterCommit runs f after the transaction in ctx has committed, or immediately if there is none. f must not block.
func (db *DB) AfterCommit(ctx context.Context, f func()) {
	if t, ok := ctx.Value(txKey{db}).(*transaction); ok {
		t.after = append(t.after, f)
		return
	}
	f()
}
