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

// Flush records what the workers have answered. If it cannot, the next one does.
func (d *Dispatcher) Flush(ctx context.Context) error {
	var results []result
	for len(d.answered) > 0 {
		results = append(results, <-d.answered)
	}
	if len(results) == 0 {
		return nil
	}
	err := d.record(ctx, results)
	if err != nil {
		for _, r := range results {
			d.answered <- r
		}
	}
	return err
}

// Claim runs a round without waiting for its workers.
func (d *Dispatcher) Claim(ctx context.Context) error {
	d.init()
	_, err := d.round(ctx, ctx)
	return err
}

// Answered is how many workers have finished.
func (d *Dispatcher) Answered() int { return len(d.answered) }

// Full reports whether nothing more is claimed, because too much is not recorded yet, and all workers have finished.
func (d *Dispatcher) Full() bool { return len(d.answered) > cap(d.answered)/2 && d.slots.busy() == 0 }

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
