package lease

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
)

// Heartbeat calls renew at the interval every until stop is called. work is the worker's context: it is canceled with the cause
// ErrSuperseded when renew returns ErrSuperseded, or when no renewal has succeeded for ttl. The ttl is measured with the
// process's monotonic clock: from sinceRenewal, a clock.Stopwatch that was started before the lease was taken, and then from
// before each renewal was sent. So the worker stops before the lease expires in the database.
// stop waits for a renewal in progress and reports whether the lease was lost.
func Heartbeat(ctx context.Context, sinceRenewal func() time.Duration, ttl, every time.Duration, renew func(context.Context) error) (work context.Context, stop func() (lost bool)) {
	work, cancel := context.WithCancelCause(ctx)
	expiry := time.AfterFunc(ttl-sinceRenewal(), func() { cancel(ErrSuperseded) })
	var loop sync.WaitGroup
	loop.Go(func() {
		defer expiry.Stop()
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-work.Done():
				return
			case <-ticker.C:
			}
			sinceSent := clock.Stopwatch()
			switch err := renew(work); {
			case err == nil:
				expiry.Reset(ttl - sinceSent())
			case errors.Is(err, ErrSuperseded):
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
