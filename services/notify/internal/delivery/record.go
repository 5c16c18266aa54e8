package delivery

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// Results are recorded together, but none waits longer than that for others.
const (
	gatherTime  = 5 * time.Millisecond
	gatherLimit = 100
)

// recordAnswers records what the workers answer, until the channel is closed and empty. It tries again until ctx ends.
func (d *Dispatcher) recordAnswers(ctx context.Context) error {
	for first := range d.answered {
		results := d.gather(first)
		for err := d.record(ctx, results); err != nil; err = d.record(ctx, results) {
			d.Log.WarnContext(ctx, "results of deliveries cannot be recorded, trying again", "error", err)
			select {
			case <-ctx.Done():
				return err
			case <-time.After(pollInterval):
			}
		}
	}
	return nil
}

// gather waits a moment for more results, so that a transaction records many. It does not wait if no worker is busy.
func (d *Dispatcher) gather(first result) []result {
	over := time.NewTimer(gatherTime)
	defer over.Stop()
	results := []result{first}
	for len(results) < gatherLimit && (len(d.answered) > 0 || d.slots.busy() > 0) {
		select {
		case r, open := <-d.answered:
			if !open {
				return results
			}
			results = append(results, r)
		case <-over.C:
			return results
		}
	}
	return results
}

// record stores results, in one transaction. If the database refuses one of them, it stores each by itself. Then it starts the next round
// of the loop: workers are free, and there may be a delivery to retry.
func (d *Dispatcher) record(ctx context.Context, results []result) error {
	err := d.recordAll(ctx, results)
	if refused(err) {
		err = d.recordEach(ctx, results)
	}
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.stopped {
			d.slots.release(r.endpoint.ID, batch{})
		}
	}
	d.Wake()
	return nil
}

// recordEach stores each result by itself. It skips one that the database refuses even without what comes from outside: its lease expires,
// and it is sent again.
func (d *Dispatcher) recordEach(ctx context.Context, results []result) error {
	for _, r := range results {
		err := d.recordAll(ctx, []result{r})
		if refused(err) && r.attempt != nil {
			// It would be sent again and again: its result is recorded without what comes from outside.
			d.Log.ErrorContext(ctx, "an answer cannot be stored", "delivery_id", r.id, "error", err)
			a := *r.attempt
			a.Excerpt, a.TraceID = "", ""
			r.settle = func(x *Delivery) ([]event.Event, error) {
				return x.record(r.epoch, a, d.Jitter(), d.Renderer.Clock.Now())
			}
			err = d.recordAll(ctx, []result{r})
		}
		if err != nil && !refused(err) {
			return err
		}
	}
	return nil
}

// refused reports whether the database refused a change, and would refuse it each time.
func refused(err error) bool {
	return err != nil && !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Timeout) &&
		!errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

func (d *Dispatcher) recordAll(ctx context.Context, results []result) error {
	var recorded []Delivery
	byID := make(map[string]result, len(results))
	for _, r := range results {
		byID[r.id] = r
	}
	err := d.InTx(ctx, func(ctx context.Context) error {
		recorded = recorded[:0]
		if err := d.judge(ctx, results); err != nil { // endpoints before deliveries, as everybody locks them
			return err
		}
		return d.ChangeAll(ctx, slices.Sorted(maps.Keys(byID)), func(x *Delivery) (bool, []event.Event, error) {
			events, err := byID[x.ID].settle(x)
			if errors.Is(err, lease.ErrSuperseded) {
				return false, nil, nil
			}
			if err == nil && len(x.Log) > 0 {
				recorded = append(recorded, *x)
			}
			return err == nil, events, err
		})
	})
	if err != nil {
		return err
	}
	for _, x := range recorded {
		d.Observer.Attempted(ctx, x, x.Log[0])
	}
	return nil
}

// judge updates the health of endpoints by the results of attempts.
func (d *Dispatcher) judge(ctx context.Context, results []result) error {
	found := map[string]*verdict{}
	for _, r := range results {
		if r.attempt != nil {
			v := found[r.endpoint.ID]
			if v == nil {
				v = &verdict{endpoint: r.endpoint}
				found[r.endpoint.ID] = v
			}
			v.add(*r.attempt)
		}
	}
	for _, v := range slices.SortedFunc(maps.Values(found), func(a, b *verdict) int { return cmp.Compare(a.endpoint.ID, b.endpoint.ID) }) {
		if !v.matters() {
			continue
		}
		var disabled []event.Event
		_, err := d.Endpoints.Change(ctx, v.endpoint.ID, func(e *endpoint.Endpoint) ([]event.Event, error) {
			if v.succeeded {
				e.Succeeded()
			}
			if v.failures > 0 {
				disabled = e.Failed(v.failures, v.gone, v.endpoint.Epoch, d.Renderer.Clock.Now())
			}
			return disabled, nil
		})
		if err != nil {
			return err
		}
		for _, e := range disabled {
			if err := d.Disabled(ctx, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// verdict is the combined result of several attempts for their endpoint.
type verdict struct {
	endpoint  endpoint.Endpoint // as it was when they began
	succeeded bool
	failures  int // since the last success
	gone      bool
}

func (v *verdict) add(a Attempt) {
	if a.ok() {
		v.succeeded, v.failures = true, 0
		return
	}
	v.failures++
	v.gone = v.gone || a.gone()
}

// matters is false for successes of a healthy endpoint: nothing has to be written.
func (v *verdict) matters() bool {
	return v.failures > 0 || v.endpoint.Failures > 0 || v.endpoint.ProbeIn != nil
}
