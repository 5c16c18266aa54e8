package delivery

import (
	"context"
	"errors"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// result is what a worker did with a delivery.
type result struct {
	id       string
	epoch    int64             // of the lease
	endpoint endpoint.Endpoint // as it was
	attempt  *Attempt          // nil if nothing was sent
	// settle ends the lease.
	settle func(*Delivery) ([]event.Event, error)
	// stopped means that the worker is free when this is recorded, and not before: there was a failure, which the next claim has to see.
	stopped bool
}

// send sends the deliveries of a worker, one after the other. It hands back those that remain after a failure, when the process stops,
// and when their lease might expire meanwhile.
func (d *Dispatcher) send(ctx, sending context.Context, deliveries []Delivery, to endpoint.Endpoint, sinceClaim func() time.Duration) {
	took, ok := clock.Stopwatch(), true
	for i, x := range deliveries {
		r := result{id: x.ID, epoch: x.Epoch, endpoint: to}
		if i == 0 || ok && ctx.Err() == nil && sinceClaim() < maxQueueTime {
			d.attempt(sending, x, &r)
		}
		if r.settle == nil {
			r.settle = func(x *Delivery) ([]event.Event, error) {
				return nil, x.handBack(r.epoch, false, d.Renderer.Clock.Now())
			}
		}
		ok = ok && r.attempt != nil && r.attempt.ok()
		if last := i == len(deliveries)-1; last && ok {
			d.slots.release(to.ID, batch{ok: true, quick: took() < quick})
			d.Wake()
		} else if last {
			r.stopped = true
		}
		d.answered <- r
	}
}

// attempt sends a delivery that this process has the lease of. r says what becomes of it, unless it is to be handed back.
func (d *Dispatcher) attempt(ctx context.Context, x Delivery, r *result) {
	now, to := d.Renderer.Clock.Now, r.endpoint
	err := d.Attempt(ctx, x, func(ctx context.Context) (sent bool, err error) {
		if !to.Enabled {
			return false, nil
		}
		if x.Body == nil {
			if err = d.render(ctx, &x, to.Profile, r); err != nil || x.Body == nil {
				return false, err
			}
		}
		a := Attempt{StartedAt: now()}
		a.Answer, err = d.Sender.Send(ctx, Message{URL: to.URL, Secrets: to.Signing(a.StartedAt), Event: x.Event, EventID: x.EventID, Body: x.Body})
		if err != nil {
			return false, err
		}
		a.LatencyMS = a.Took.Milliseconds()
		if ctx.Err() != nil && a.StatusCode == nil { // the process stops
			r.settle = func(x *Delivery) ([]event.Event, error) { return nil, x.handBack(r.epoch, true, now()) }
			return true, nil
		}
		r.attempt = &a
		r.settle = func(x *Delivery) ([]event.Event, error) { return x.record(r.epoch, a, d.Jitter(), now()) }
		return true, nil
	})
	if r.settle == nil && err != nil { // Attempt has logged it
		r.settle = func(x *Delivery) ([]event.Event, error) { return nil, x.postpone(r.epoch, leaseTTL, now()) }
	}
}

// render makes and stores the payload of a delivery. Without one, r says what becomes of the delivery.
func (d *Dispatcher) render(ctx context.Context, x *Delivery, p endpoint.Profile, r *result) error {
	now := d.Renderer.Clock.Now
	body, incomplete, err := d.Renderer.body(ctx, *x, p)
	switch {
	case errors.Is(err, errPayload):
		r.settle = func(x *Delivery) ([]event.Event, error) { return x.reject(r.epoch, now()) }
		return err
	case err != nil:
		return err
	case body == nil:
		r.settle = func(x *Delivery) ([]event.Event, error) { return nil, x.postpone(r.epoch, copyWait, now()) }
		return nil
	}
	_, err = d.Change(ctx, x.ID, func(x *Delivery) ([]event.Event, error) {
		if err := x.Check(r.epoch); err != nil {
			return nil, err
		}
		x.Body, x.Incomplete = body, incomplete
		return nil, nil
	})
	if err == nil {
		x.Body = body
	}
	return err
}
