package leadimport

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/page"
)

// Store stores imports, their rows and the leads that they have changed. An import that does not exist is the fault NotFound.
type Store interface {
	Create(ctx context.Context, i Import) error
	Find(ctx context.Context, id string) (Import, error)
	// Change lets fn change an import under a lock, and inserts the job that it asks for.
	Change(ctx context.Context, id string, fn func(*Import) error) (Import, error)
	Remove(ctx context.Context, id string) error
	// Stage adds rows.
	Stage(ctx context.Context, importID string, rows []Staged) error
	// ListRows returns a page of the rows in the order of their lines; result filters unless it is empty.
	ListRows(ctx context.Context, importID, result string, r page.Request) (page.Of[Result], error)
	// Earlier returns the lines of the first rows before a line that have one of the phone numbers, by phone number.
	Earlier(ctx context.Context, importID string, phones []string, before int) (map[string]int, error)
}

// Batches gives a worker the work of an import, a batch in each transaction. The worker holds the lease with that epoch, which each
// batch renews for ttl; without it they fail with lease.ErrSuperseded. more is false when nothing was left to do.
type Batches interface {
	// Rows gives fn the next rows, and stores their results and the leads that fn returns.
	Rows(ctx context.Context, importID string, epoch int64, ttl time.Duration, limit int, fn func(context.Context, *Import, []Staged) ([]Touched, error)) (more bool, err error)
	// Leads gives fn the next leads to revert; fn returns which of them it has reverted, in their order.
	Leads(ctx context.Context, importID string, epoch int64, ttl time.Duration, limit int, fn func(context.Context, *Import, []Touched) ([]bool, error)) (more bool, err error)
	// ListLost returns the imports whose process died: up to limit whose lease has expired, and up to limit whose job it never began.
	ListLost(ctx context.Context, limit int) ([]lease.Ref, error)
	// RemoveStaged removes the imports whose file has not arrived completely within an age, and imports older than retention.
	RemoveStaged(ctx context.Context, age, retention time.Duration) error
}
