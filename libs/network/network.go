// Package network prevents network calls inside database transactions: a transaction that waits for another service holds a
// connection and locks until that service answers. libs/pg marks the context of a transaction. Every client of another system
// calls Check first and refuses to run inside a transaction. Fetch external data before the transaction; insert a job for
// external side effects.
package network

import (
	"context"
	"errors"
)

// ErrInTransaction is returned by a client that was called inside a transaction, which is a bug in the caller.
var ErrInTransaction = errors.New("network call inside a database transaction")

type key struct{}

// Forbid returns ctx marked as the context of a transaction.
func Forbid(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, true) }

// Check returns ErrInTransaction if ctx is the context of a transaction.
func Check(ctx context.Context) error {
	if ctx.Value(key{}) != nil {
		return ErrInTransaction
	}
	return nil
}
