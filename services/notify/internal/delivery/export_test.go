package delivery

import (
	"context"
	"errors"
	"time"

	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// Once runs a round of the loop, waits for its workers, and records what they did.
func (d *Dispatcher) Once(ctx context.Context) (wait time.Duration, err error) {
	d.init()
	wait, err = d.round(ctx, ctx)
	d.workers.Wait()
	return wait, errors.Join(err, d.Flush(context.WithoutCancel(ctx)))
}

// Flush records what the workers have answered.
func (d *Dispatcher) Flush(ctx context.Context) error {
	for len(d.answered) > 0 {
		d.accept(<-d.answered)
	}
	return d.record(ctx)
}

// Claim runs a round without waiting for its workers.
func (d *Dispatcher) Claim(ctx context.Context) error {
	d.init()
	_, err := d.round(ctx, ctx)
	return err
}

// Answered is how many workers have finished.
func (d *Dispatcher) Answered() int { return len(d.answered) }

// Wait waits for the workers of earlier rounds.
func (d *Dispatcher) Wait() { d.workers.Wait() }

// Quick makes the dispatcher give as many deliveries of an endpoint to a worker as possible.
func (d *Dispatcher) Quick(endpointID string) {
	d.init()
	d.slots.sizes[endpointID] = maxBatch
}

// Late sends deliveries that were claimed that long ago.
func (d *Dispatcher) Late(ctx context.Context, ago time.Duration, to endpoint.Endpoint, deliveries ...Delivery) {
	d.init()
	d.slots.take(to.ID)
	d.workers.Go(func() { d.send(ctx, ctx, deliveries, to, func() time.Duration { return ago }) })
	d.workers.Wait()
}
