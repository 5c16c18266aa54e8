package speech

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

const (
	tripAfter   = 5                // failures in a row, after which requests to a provider are paused
	tripPause   = 10 * time.Second // then
	limitPause  = 2 * time.Second  // after a rate limit without a Retry-After
	quotaPause  = 5 * time.Minute  // until it is tried again whether the account has quota
	maxPause    = 30 * time.Minute
	concurrency = 4 // requests to one provider, unless it is configured; each may hold a file in memory
)

// limiter limits the concurrent requests to a provider, and pauses them while the provider accepts none: after a rate limit, without
// quota, and after several failures in a row. A request that is not sent is the fault Limited, which costs its call no attempt.
type limiter struct {
	slots chan struct{}
	clock clock.Clock

	mu       sync.Mutex
	until    time.Time    // the end of the pause
	cause    *fault.Error // of the pause
	failures int          // in a row
}

func newLimiter(slots int, clk clock.Clock) *limiter {
	if slots == 0 {
		slots = concurrency
	}
	return &limiter{slots: make(chan struct{}, slots), clock: clk}
}

// acquire waits for a slot. It fails with Limited during a pause. release must be called with the result of the request.
func (l *limiter) acquire(ctx context.Context) (release func(error), err error) {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := l.paused(); err != nil {
		<-l.slots
		return nil, err
	}
	return func(err error) {
		<-l.slots
		l.record(err)
	}, nil
}

// paused returns why no request is sent right now, or nil.
func (l *limiter) paused() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.until.Sub(l.clock.Now())
	if left <= 0 {
		return nil
	}
	f := *l.cause
	f.Kind, f.RetryAfter = fault.Limited, left
	return &f
}

func (l *limiter) record(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, pause, now := fault.Of(err), tripPause, l.clock.Now()
	switch {
	case err == nil:
		l.failures = 0
		if !now.Before(l.until) { // else the request was sent before the pause
			l.cause = nil
		}
		return
	case errors.Is(err, context.Canceled):
		return
	case f.Kind == fault.Limited:
		pause = limitPause
	case f.Kind == fault.Unavailable, f.Kind == fault.Timeout:
		if l.failures++; l.failures < tripAfter {
			return
		}
	default:
		return
	}
	if f.RetryAfter > 0 {
		pause = min(f.RetryAfter, maxPause)
	}
	if until := now.Add(pause); until.After(l.until) {
		l.cause, l.until = f, until
	}
}

// outOfQuota reports whether the account had no quota when it was last used.
func (l *limiter) outOfQuota() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause != nil && l.cause.Code == call.CodeQuota
}
