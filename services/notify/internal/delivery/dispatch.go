package delivery

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
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

// Dispatcher sends the deliveries that are due: one in each process. Its loop claims deliveries for the free workers, which send them. It
// waits until a worker has finished, a delivery was created, or the next one is due. Beside it, the recorder stores what was answered. So
// a delivery that waits costs nothing, and one transaction serves many deliveries when there is much to do: a worker gets several at once
// of an endpoint that answers quickly.
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
	answered chan result // not recorded yet
	workers  sync.WaitGroup
	slots    *slots
}

const (
	// pollInterval limits the wait for the next round. It finds what another process has left, and what that has scheduled.
	pollInterval  = time.Second
	copyWait      = time.Second     // of a delivery whose payload waits for a copy
	recordTimeout = 5 * time.Second // of writing results while the process stops
	// drainTimeout is how long requests may go on after the process began to stop.
	drainTimeout = 5 * time.Second
	// minWait limits how often an endpoint with a rate limit is looked at: its requests are sent in groups of that time.
	minWait = 100 * time.Millisecond
	// maxQueueTime is how long after the claim a request may begin. With the longest request it is shorter than the lease.
	maxQueueTime = 2 * time.Second
)

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
		d.wake, d.answered = make(chan struct{}, 1), make(chan result, 2*d.Workers*maxBatch)
		d.slots = newSlots(d.Workers)
	})
}

// Run sends deliveries until ctx ends. Then it waits for requests in progress, cancels those that take too long, and records the results.
func (d *Dispatcher) Run(ctx context.Context) error {
	d.init()
	sending, cancelSending := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelSending()
	recording, cancelRecording := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRecording()
	var recorder sync.WaitGroup
	var unrecorded error
	recorder.Go(func() { unrecorded = d.recordAnswers(recording) })

	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait, err := d.round(ctx, sending)
		if err != nil && ctx.Err() == nil {
			d.Log.WarnContext(ctx, "deliveries cannot be claimed, trying again", "error", err)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-d.wake:
		case <-timer.C:
		}
	}

	defer time.AfterFunc(drainTimeout, cancelSending).Stop()
	d.workers.Wait()
	close(d.answered)
	defer time.AfterFunc(recordTimeout, cancelRecording).Stop()
	recorder.Wait()
	return unrecorded
}

// round claims and sends. It returns how long to wait for the next one.
func (d *Dispatcher) round(ctx, sending context.Context) (wait time.Duration, err error) {
	// What the workers may still answer must have room in the channel: they never wait for the recorder. It wakes the loop.
	if d.slots.free() == 0 || len(d.answered) > cap(d.answered)/2 {
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
