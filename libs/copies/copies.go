// Package copies is how a service uses objects that another service owns. It stores copies of them, made from the owner's
// events, and fetches an object from its owner only when its first event has not arrived yet. It refuses to change an object.
package copies

import (
	"context"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Store stores the copies of one type of object.
type Store[T any] interface {
	// Find reads a copy. ok is false for an object without one.
	Find(ctx context.Context, id string) (copied T, ok bool, err error)
	// Upsert stores a copy. It ignores one whose version is not newer than the stored one.
	Upsert(ctx context.Context, copied T) error
}

// Fetch reads an object from its owner with the token of ctx's caller. The copy that it returns has version 0, so that the first
// event replaces it. It fails with the owner's NotFound or Forbidden fault, and otherwise with Unavailable.
type Fetch[T any] func(ctx context.Context, id string) (T, error)

// Object is a copy that belongs to an agent.
type Object interface {
	// Owner returns the agent that the object belongs to. exists is false once the object was deleted.
	Owner() (agentID string, exists bool)
}

// Of is the copies of one type of object, with the access of agents to them.
type Of[T Object] struct {
	Store[T]
	Fetch Fetch[T]
	// NotFound and Forbidden return the faults for an object that does not exist, and for one that the caller may not see.
	NotFound, Forbidden func() error
}

// Get reads the copy of an object that the caller may see. It fails with NotFound or Forbidden.
func (o Of[T]) Get(ctx context.Context, caller identity.Caller, id string) (T, error) {
	var none T
	copied, ok, err := o.Find(ctx, id)
	if err != nil {
		return none, err
	}
	agentID, exists := copied.Owner()
	switch {
	case !ok, !exists:
		return none, o.NotFound()
	case !caller.MaySee(agentID):
		return none, o.Forbidden()
	}
	return copied, nil
}

// Ensure fetches and stores a copy of an object that has none. It must not run in a transaction. It fails with NotFound,
// Forbidden, or the fault of Fetch.
func (o Of[T]) Ensure(ctx context.Context, id string) error {
	if _, ok, err := o.Find(ctx, id); ok || err != nil {
		return err
	}
	fetched, err := o.Fetch(ctx, id)
	switch {
	case fault.Is(err, fault.NotFound):
		return o.NotFound()
	case fault.Is(err, fault.Forbidden):
		return o.Forbidden()
	case err != nil:
		return err
	}
	return o.Upsert(ctx, fetched)
}
