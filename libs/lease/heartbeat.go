package lease

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
)

// Keep renews a lease until stop is called. work is ctx for the worker: it ends with the cause ErrSuperseded as soon as renew
// says so, or when nothing could be renewed for ttl. That is measured on the process' own monotonic clock, from began, a
// clock.Stopwatch that was started before the lease was taken, and then from the moment before each renewal is sent: so the
// worker stops earlier than the database gives its lease away. stop waits for a renewal that is
// under way and reports whether the lease was lost.
func Keep(ctx context.Context, began func() time.Duration, ttl, every time.Duration, renew func(context.Context) error) (work context.Context, stop func() (lost bool)) {
	work, cancel := context.WithCancelCause(ctx)
	var loop sync.WaitGroup
	good := began
	loop.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-work.Done():
				return
			case <-ticker.C:
			}
			sent := clock.Stopwatch()
			renewing, done := context.WithTimeout(work, ttl-min(ttl, good()))
			err := renew(renewing)
			done()
			switch {
			case err == nil:
				good = sent
			case errors.Is(err, ErrSuperseded), good() >= ttl:
				cancel(ErrSuperseded)
				return
			}
		}
	})
	return work, func() bool {
		cancel(context.Canceled)
		loop.Wait()
		return errors.Is(context.Cause(work), ErrSuperseded)
	}
}
