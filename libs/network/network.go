// Package network keeps calls to the outside out of database transactions: a transaction that waits for another service holds
// a connection and locks for as long as that service likes. libs/pg marks the context of a transaction; every client of
// something outside of the database asks Check first and refuses to go out from inside of one. What has to be learned from
// outside is learned before the transaction, what has to happen outside is a job.
package network

import (
	"context"
	"errors"
)

// ErrInTransaction is the answer of a client that was called inside of a transaction. It is a bug of the caller.
var ErrInTransaction = errors.New("a call to the outside inside of a database transaction")

type key struct{}

// Forbid marks ctx as that of a transaction.
func Forbid(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, true) }

// Check returns ErrInTransaction when ctx is that of a transaction.
func Check(ctx context.Context) error {
	if ctx.Value(key{}) != nil {
		return ErrInTransaction
	}
	return nil
}
