package pg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/network"
)

// txKey is per DB: five services in one process must not take each other's transaction for their own.
type txKey struct{ db *DB }

type transaction struct {
	tx    pgx.Tx
	after []func()
}

// attempts is how often InTx tries a transaction that lost against another one.
const attempts = 4

// InTx runs fn in a transaction that travels in fn's context, so that every store called with it takes part. Inside a
// transaction it joins that one. It commits when fn returns nil. A serialization failure or deadlock runs fn again, so fn
// must not have effects outside the database; clients of other systems refuse to be called from it (libs/network).
func (db *DB) InTx(ctx context.Context, fn func(ctx context.Context) error) error {
	if _, ok := ctx.Value(txKey{db}).(*transaction); ok {
		return fn(ctx)
	}
	for attempt := 1; ; attempt++ {
		err := db.once(ctx, fn)
		if err == nil || attempt == attempts || !lostRace(err) {
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
	tx, err := db.pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	t := &transaction{tx: tx}
	// Rolling back after a commit does nothing; after a panic or an error it frees the connection also when ctx is done.
	defer func() {
		rollback, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if rbErr := tx.Rollback(rollback); rbErr != nil && !errors.Is(rbErr, pgx.ErrTxClosed) && err == nil {
			err = rbErr
		}
	}()
	if err := fn(network.Forbid(context.WithValue(ctx, txKey{db}, t))); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	for _, f := range t.after {
		f()
	}
	return nil
}

// Savepoint runs fn inside a savepoint of the transaction in ctx: when fn fails only its own writes are undone.
func (db *DB) Savepoint(ctx context.Context, fn func(ctx context.Context) error) error {
	t, ok := ctx.Value(txKey{db}).(*transaction)
	if !ok {
		return db.InTx(ctx, fn)
	}
	nested, err := t.tx.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin a savepoint: %w", err)
	}
	inner := &transaction{tx: nested}
	if err := fn(context.WithValue(ctx, txKey{db}, inner)); err != nil {
		return errors.Join(err, nested.Rollback(context.WithoutCancel(ctx)))
	}
	if err := nested.Commit(ctx); err != nil {
		return fmt.Errorf("release a savepoint: %w", err)
	}
	t.after = append(t.after, inner.after...)
	return nil
}

// Tx is the transaction that ctx carries, for libraries that want one. It is nil outside InTx.
func (db *DB) Tx(ctx context.Context) pgx.Tx {
	if t, ok := ctx.Value(txKey{db}).(*transaction); ok {
		return t.tx
	}
	return nil
}

// AfterCommit runs f once the transaction of ctx has committed, at once outside of one. f must not block.
func (db *DB) AfterCommit(ctx context.Context, f func()) {
	if t, ok := ctx.Value(txKey{db}).(*transaction); ok {
		t.after = append(t.after, f)
		return
	}
	f()
}
