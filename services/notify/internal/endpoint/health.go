package endpoint

import (
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
)

// Health is the circuit breaker and the rate limit of an endpoint. Its times are those that are left by the database's clock, so that
// all processes judge by the same one; a time that has passed is negative.
type Health struct {
	Failures    int            // failed attempts, of any delivery, since the last success
	FailedSince *time.Duration // the first of them
	// ProbeIn is set while the breaker is open: nothing is sent before, and then one delivery as the half-open probe.
	ProbeIn *time.Duration
	// SendIn is when the rate limit allows the next request; nil if there was none.
	SendIn *time.Duration
}

const (
	// threshold is the number of consecutive failures that opens the breaker.
	threshold = 5
	// The wait of an open breaker doubles from firstProbe to maxProbe. The longest is short compared with the schedule of a delivery
	// that has failed as often, so that the breaker delays a delivery only if there are many.
	firstProbe = 5 * time.Second
	maxProbe   = 30 * time.Second
	// probeTimeout is when another probe is allowed if the process that sent one does not say what became of it. It exceeds the lease
	// of a delivery.
	probeTimeout = 25 * time.Second
	// burst is how long unused requests of the rate limit accumulate.
	burst = time.Second
	// DisableAfter is after how long with nothing but failures an endpoint is disabled.
	DisableAfter = 5 * 24 * time.Hour
)

// Admit returns how many of n requests may begin now, and counts them. It returns 0 for an endpoint that is disabled, 1 at most as the
// probe of an open breaker, and no more than the rate limit allows.
func (e *Endpoint) Admit(n int) int {
	if !e.Enabled || n <= 0 || e.Wait() > 0 {
		return 0
	}
	if e.ProbeIn != nil {
		n = 1
	}
	if e.RateLimit != nil {
		interval := time.Second / time.Duration(*e.RateLimit)
		from := -burst
		if e.SendIn != nil {
			from = max(from, *e.SendIn)
		}
		n = min(n, 1+int(-from/interval))
		from += time.Duration(n) * interval
		e.SendIn = &from
	}
	if e.ProbeIn != nil {
		e.probeIn(probeTimeout)
	}
	return n
}

// Wait returns how long nothing may be sent to an endpoint that is enabled.
func (e *Endpoint) Wait() time.Duration {
	var wait time.Duration
	for _, in := range []*time.Duration{e.ProbeIn, e.SendIn} {
		if in != nil {
			wait = max(wait, *in)
		}
	}
	return wait
}

// Limited reports whether Admit depends on more than whether the endpoint is enabled.
func (e *Endpoint) Limited() bool { return e.ProbeIn != nil || e.RateLimit != nil }

// Succeeded records a success: the breaker closes.
func (e *Endpoint) Succeeded() { e.Failures, e.FailedSince, e.ProbeIn = 0, nil, nil }

// Failed records that many failed attempts, which began under the epoch. gone means that the receiver has been removed for good. It
// returns the event of an endpoint that this disabled.
func (e *Endpoint) Failed(failures int, gone bool, epoch int64, now time.Time) []event.Event {
	if !e.Enabled || e.Epoch != epoch {
		return nil
	}
	if e.FailedSince == nil {
		e.FailedSince = new(time.Duration(0))
	}
	e.Failures += failures
	if over := e.Failures - threshold; over >= 0 {
		e.probeIn(min(firstProbe<<min(over, 10), maxProbe))
	}
	switch {
	case gone:
		e.Disable(Gone, now)
	case -*e.FailedSince >= DisableAfter:
		e.Disable(Failing, now)
	default:
		return nil
	}
	return []event.Event{events.EndpointDisabled.New(now, events.Endpoint{
		EndpointID: e.ID, Version: e.Epoch, Description: e.Description, Reason: *e.DisabledReason, FailingSince: e.failingSince(now), DisabledAt: now,
	})}
}

func (e *Endpoint) probeIn(in time.Duration) { e.ProbeIn = &in }

// failingSince returns the first failure, if there was more than the last.
func (e *Endpoint) failingSince(now time.Time) *time.Time {
	if *e.FailedSince == 0 {
		return nil
	}
	return new(now.Add(*e.FailedSince))
}
