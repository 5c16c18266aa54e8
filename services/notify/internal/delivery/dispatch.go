package delivery

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// Queue is the deliveries that wait. Times are those of the database.
type Queue interface {
	// ListWaiting says how much waits for each endpoint that is enabled. It counts up to limit deliveries that are due.
	ListWaiting(ctx context.Context, limit int) ([]Waiting, error)
	// ChangeDue lets fn change the deliveries that are due, the longest due first: as many of each endpoint as that, by its id. Those whose
	// lease has expired are due too. It passes over those that another transaction is changing, and endpoints that are disabled.
	ChangeDue(ctx context.Context, numbers map[string]int, fn func(*Delivery) error) ([]Delivery, error)
	// Change lets fn change the delivery under a lock, and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*Delivery) ([]event.Event, error)) (Delivery, error)
	// ChangeAll lets fn change the deliveries with these ids in one transaction, and saves those for which it returns true, with their
	// events.
	ChangeAll(ctx context.Context, ids []string, fn func(*Delivery) (bool, []event.Event, error)) error
}

// Message is one request to a receiver.
type Message struct {
	URL     string
	Secrets []string // newest first; each signs
	Event   string
	EventID string
	Body    []byte
}

// Sender sends a message and returns the response, within a timeout of its own that is shorter than the lease. A failed request
// returns an Answer too; an error means that the message must not be sent here, such as inside a transaction.
type Sender interface {
	Send(ctx context.Context, m Message) (Answer, error)
}

// Observer is called after every attempt that was recorded.
type Observer interface {
	Attempted(ctx context.Context, d Delivery, a Attempt)
}

// Dispatcher sends the deliveries that are due: one in each process. Its loop records what has been answered, claims deliveries for the
// free workers, and sends them. It waits until a worker has finished, a delivery was created, or the next one is due. So a delivery that
// waits costs nothing, and one transaction serves many deliveries when there is much to do: a worker gets several at once of an endpoint
// that answers quickly.
type Dispatcher struct {
	Queue
	Endpoints Endpoints
	Renderer  *Renderer
	Sender    Sender
	Observer  Observer
	Log       *slog.Logger
	// InTx runs fn in a transaction, which stores join.
	InTx func(ctx context.Context, fn func(ctx context.Context) error) error
	// Disabled delivers the event of an endpoint that was disabled to the other endpoints, in the transaction that disables it.
	Disabled func(ctx context.Context, e event.Event) error
	// Attempt runs do as an operation in the trace of a delivery. A panic becomes an error. do reports whether it sent a request.
	Attempt func(ctx context.Context, x Delivery, do func(ctx context.Context) (sent bool, err error)) error
	Jitter  func() float64 // 0 to 1, spreads retries over time
	Holder  string         // names this process in leases
	Workers int            // deliveries sent at the same time

	once     sync.Once
	wake     chan struct{}
	answered chan result
	workers  sync.WaitGroup
	slots    slots
	finished []result // not recorded yet
}

const (
	// pollInterval limits the wait for the next round. It finds what another process has left, and what that has scheduled.
	pollInterval  = time.Second
	copyWait      = time.Second     // of a delivery whose payload waits for a copy
	recordTimeout = 5 * time.Second // of writing results while the process stops
	// drainTimeout is how long requests may go on after the process was told to stop.
	drainTimeout = 5 * time.Second
	// minWait limits how often an endpoint with a rate limit is looked at: its requests are sent in groups of that time.
	minWait = 100 * time.Millisecond
	// Results are recorded together, but none waits longer than that for others.
	gatherTime  = 5 * time.Millisecond
	gatherLimit = 100
	// maxQueueTime is how long after the claim a request may begin. With the longest request it is shorter than the lease.
	maxQueueTime = 2 * time.Second
)

// result is what a worker did with a delivery.
type result struct {
	id       string
	epoch    int64             // of the lease
	endpoint endpoint.Endpoint // as it was
	attempt  *Attempt          // nil if nothing was sent
	// settle ends the lease.
	settle func(*Delivery) ([]event.Event, error)
	batch  *batch // of the last result of its worker
}

// Wake starts the next round of the loop. It does not block.
func (d *Dispatcher) Wake() {
	d.init()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *Dispatcher) init() {
	d.once.Do(func() {
		d.wake, d.answered = make(chan struct{}, 1), make(chan result, d.Workers*maxBatch) // a worker never waits for the loop
		d.slots = newSlots(d.Workers)
	})
}

// Run sends deliveries until ctx ends. Then it waits for requests in progress, cancels those that take too long, and records the results.
func (d *Dispatcher) Run(ctx context.Context) error {
	d.init()
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return d.stop(sending, cancel)
		case <-d.wake:
		case <-timer.C:
		case r := <-d.answered:
			d.accept(r)
			d.gather(ctx)
		}
		wait, err := d.round(ctx, sending)
		if err != nil && ctx.Err() == nil {
			d.Log.WarnContext(ctx, "deliveries cannot be recorded or claimed, trying again", "error", err)
		}
		timer.Reset(wait)
	}
}

// stop records what is answered in time, and hands back the rest.
func (d *Dispatcher) stop(ctx context.Context, cancel func()) error {
	expiry := time.AfterFunc(drainTimeout, cancel)
	defer expiry.Stop()
	for d.slots.total > 0 {
		d.accept(<-d.answered)
	}
	d.workers.Wait()
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer done()
	return d.record(ctx)
}

// accept takes a result. After the last one of a worker, the worker is free.
func (d *Dispatcher) accept(r result) {
	d.finished = append(d.finished, r)
	if r.batch != nil {
		d.slots.release(r.endpoint.ID, *r.batch)
	}
}

// gather waits a moment for more results, so that a transaction records many. It does not wait if no worker is busy.
func (d *Dispatcher) gather(ctx context.Context) {
	over := time.NewTimer(gatherTime)
	defer over.Stop()
	for d.slots.total > 0 && len(d.finished) < gatherLimit {
		select {
		case r := <-d.answered:
			d.accept(r)
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// round records, claims and sends. It returns how long to wait for the next one.
func (d *Dispatcher) round(ctx, sending context.Context) (wait time.Duration, err error) {
	for len(d.answered) > 0 {
		d.accept(<-d.answered)
	}
	if err := d.record(ctx); err != nil {
		return pollInterval, err
	}
	if d.slots.free() == 0 {
		return pollInterval, nil
	}
	waiting, err := d.ListWaiting(ctx, d.slots.limit())
	if err != nil {
		return pollInterval, err
	}
	room, wait := d.slots.allot(waiting)
	if len(room) == 0 {
		return wait, nil
	}
	sinceClaim := clock.Stopwatch()
	claimed, endpoints, err := d.claim(ctx, room, waiting)
	if err != nil {
		return pollInterval, err
	}
	for _, batch := range divide(claimed, room) {
		to := endpoints[batch[0].EndpointID]
		d.slots.take(to.ID)
		d.workers.Go(func() { d.send(ctx, sending, batch, to, sinceClaim) })
	}
	return wait, nil
}

// divide divides deliveries among the workers of their endpoints, so that the oldest are the first of each.
func divide(claimed []Delivery, room map[string]int) (batches [][]Delivery) {
	of := map[string][]Delivery{}
	for _, x := range claimed {
		of[x.EndpointID] = append(of[x.EndpointID], x)
	}
	for id, all := range of {
		workers := min(room[id], len(all))
		for first := range workers {
			var batch []Delivery
			for i := first; i < len(all); i += workers {
				batch = append(batch, all[i])
			}
			batches = append(batches, batch)
		}
	}
	return batches
}

// claim gives due deliveries to this process: as many of each endpoint as its workers take, and as its breaker and rate limit admit.
func (d *Dispatcher) claim(ctx context.Context, room map[string]int, waiting []Waiting) (claimed []Delivery, to map[string]endpoint.Endpoint, err error) {
	err = d.InTx(ctx, func(ctx context.Context) error {
		numbers := map[string]int{}
		for _, w := range waiting {
			n := min(w.Due, room[w.EndpointID]*d.slots.size(w.EndpointID))
			if w.Limited && n > 0 {
				if _, err := d.Endpoints.Change(ctx, w.EndpointID, func(e *endpoint.Endpoint) ([]event.Event, error) {
					n = e.Admit(n)
					return nil, nil
				}); err != nil {
					return err
				}
			}
			if n > 0 {
				numbers[w.EndpointID] = n
			}
		}
		now := d.Renderer.Clock.Now()
		if claimed, err = d.ChangeDue(ctx, numbers, func(x *Delivery) error { return x.begin(d.Holder, now) }); err != nil || len(claimed) == 0 {
			return err
		}
		all, err := d.Endpoints.List(ctx)
		if err != nil {
			return err
		}
		to = make(map[string]endpoint.Endpoint, len(all))
		for _, e := range all {
			to[e.ID] = e
		}
		return nil
	})
	return claimed, to, err
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
		if i == len(deliveries)-1 {
			r.batch = &batch{ok: ok, quick: took() < quick}
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

// record stores the results that are finished, in one transaction. If the database refuses one of them, it stores each by itself.
func (d *Dispatcher) record(ctx context.Context) error {
	if len(d.finished) == 0 {
		return nil
	}
	err := d.recordAll(ctx, d.finished)
	if refused(err) {
		for _, r := range d.finished {
			if err = d.recordAll(ctx, []result{r}); refused(err) && r.attempt != nil {
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
	}
	if err != nil && !refused(err) {
		return err
	}
	d.finished = nil
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

// judge records what attempts say about the health of their endpoints.
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

// verdict is what several attempts say about their endpoint.
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
