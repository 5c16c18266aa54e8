package bus

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
)

// outage logs once when something starts to fail and once when all of it works again, however many loops notice it and however
// often they retry. It is safe for concurrent use.
type outage struct {
	log  *slog.Logger
	what string // fetching from Kafka, applying events, …

	mu      sync.Mutex
	failing map[string]bool // the names of the loops that fail
	retries int
	took    func() time.Duration
}

func newOutage(log *slog.Logger, what string) *outage {
	return &outage{log: log, what: what, failing: map[string]bool{}}
}

// fails records that the named loop failed and will retry.
func (o *outage) fails(ctx context.Context, name string, err error) {
	if ctx.Err() != nil {
		return // it failed because it is stopping
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.failing) == 0 {
		o.retries, o.took = 0, clock.Stopwatch()
		o.log.WarnContext(ctx, "failed, retrying until it succeeds", "doing", o.what, "for", name, "error", err)
	}
	o.failing[name] = true
	o.retries++
}

// works records that the named loop does not fail, or has ended.
func (o *outage) works(ctx context.Context, name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.failing[name] {
		return
	}
	delete(o.failing, name)
	if len(o.failing) == 0 && ctx.Err() == nil {
		o.log.InfoContext(ctx, "works again", "doing", o.what, "after", o.took(), "retries", o.retries)
	}
}

// count returns how many loops fail.
func (o *outage) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.failing)
}

// forever calls do until it succeeds, with the named outage. Its error is ctx.Err().
func (o *outage) forever(ctx context.Context, name string, do func(context.Context) error) error {
	for delay := retryFirst; ; delay = min(2*delay, retryMax) {
		err := do(ctx)
		if err == nil {
			o.works(ctx, name)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		o.fails(ctx, name, err)
		if err := wait(ctx, delay); err != nil {
			return err
		}
	}
}

// Waits between retries, doubled from the first to the longest.
const (
	retryFirst = 100 * time.Millisecond
	retryMax   = 2 * time.Second
)

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
