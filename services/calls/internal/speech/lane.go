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
	tripAfter   = 5                // failures in a row, after which a provider is left alone for a while
	tripPause   = 10 * time.Second // then
	limitPause  = 2 * time.Second  // after a rate limit without a Retry-After
	quotaPause  = 5 * time.Minute  // until it is tried again whether the account has quota
	maxPause    = 30 * time.Minute
	concurrency = 4 // requests to one provider, unless it is configured; each may hold a file in memory
)

// lane bounds the requests to a provider, and sends none while the provider accepts none: after a rate limit, without quota, and after
// several failures in a row. A request that is not sent is the fault Limited, which costs its call no attempt.
type lane struct {
	slots chan struct{}
	clock clock.Clock

	mu       sync.Mutex
	until    time.Time // the lane is stopped until then
	stop     *fault.Error
	failures int // in a row
}

func newLane(slots int, clk clock.Clock) *lane {
	if slots == 0 {
		slots = concurrency
	}
	return &lane{slots: make(chan struct{}, slots), clock: clk}
}

// enter waits for a slot. It fails with Limited while the lane is stopped. leave must be called with the result of the request.
func (l *lane) enter(ctx context.Context) (leave func(error), err error) {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if stop := l.stopped(); stop != nil {
		<-l.slots
		return nil, stop
	}
	return func(err error) {
		<-l.slots
		l.record(err)
	}, nil
}

// stopped returns why no request is sent right now, or nil.
func (l *lane) stopped() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.until.Sub(l.clock.Now())
	if left <= 0 {
		return nil
	}
	stop := *l.stop
	stop.Kind, stop.RetryAfter = fault.Limited, left
	return &stop
}

func (l *lane) record(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, pause, now := fault.Of(err), tripPause, l.clock.Now()
	switch {
	case err == nil:
		l.failures = 0
		if !now.Before(l.until) { // else the request was sent before the lane was stopped
			l.stop = nil
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
		l.stop, l.until = f, until
	}
}

// outOfQuota reports whether the account had no quota when it was last used.
func (l *lane) outOfQuota() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stop != nil && l.stop.Code == call.CodeQuota
}
