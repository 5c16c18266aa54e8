package delivery

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// Store stores deliveries. One that does not exist is the fault NotFound, and a database that does not respond is Unavailable. The job
// that a delivery's lease requests is inserted in the transaction of the change.
type Store interface {
	// Create stores deliveries. It ignores one whose event and endpoint already have one.
	Create(ctx context.Context, deliveries ...Delivery) error
	// Find reads a delivery with its attempts.
	Find(ctx context.Context, id string) (Delivery, error)
	// List reads deliveries without their data, body and attempts.
	List(ctx context.Context, f Filter) (page.Of[Delivery], error)
	// Change lets fn change the delivery under a lock, and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*Delivery) ([]event.Event, error)) (Delivery, error)
	// ChangeEach lets fn change every selected delivery, except those that another transaction is changing. After fn, a
	// delivery must no longer match the selection.
	ChangeEach(ctx context.Context, s Selection, fn func(*Delivery)) error
}

// Selection selects deliveries to change.
type Selection struct {
	// Expired selects those whose lease has expired, the oldest first, regardless of the other fields.
	Expired bool
	// EndpointID and Statuses select deliveries of an endpoint that no worker is sending.
	EndpointID string
	Statuses   []Status
}

// Jobs lists jobs of deliveries.
type Jobs interface {
	// ListAbandoned lists jobs that a process fetched a while ago and never began.
	ListAbandoned(ctx context.Context) ([]Abandoned, error)
}

// Abandoned is a job that a process fetched and never began.
type Abandoned struct {
	DeliveryID string
	Epoch      int64
}

// Endpoints stores the receivers of deliveries.
type Endpoints interface {
	Find(ctx context.Context, id string) (endpoint.Endpoint, error)
	List(ctx context.Context) ([]endpoint.Endpoint, error)
	Change(ctx context.Context, id string, fn func(*endpoint.Endpoint) error) (endpoint.Endpoint, error)
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

// Service delivers webhooks.
type Service struct {
	Deliveries Store
	Jobs       Jobs
	Endpoints  Endpoints
	Agents     copies.Store[Agent]
	Clients    copies.Store[Client]
	Erasures   Erasures
	Archive    Archive
	Leads      copies.Store[Lead]
	Sender     Sender
	Observer   Observer
	Clock      clock.Clock
	Log        *slog.Logger
	Jitter     func() float64 // 0 to 1, spreads retries over time
	Holder     string         // names this process in leases
	PublicURL  string         // of the API, for the links in payloads
	Bulkhead   *Bulkhead
}

// OnTranscriptionCompleted creates the deliveries of a call that was transcribed, or could not be.
func (s *Service) OnTranscriptionCompleted(ctx context.Context, e event.Received[events.Call]) error {
	return s.deliver(ctx, e.Event, &e.Data.CallID)
}

// OnFollowUp creates the deliveries of an event of a follow-up.
func (s *Service) OnFollowUp(ctx context.Context, e event.Received[events.FollowUp]) error {
	return s.deliver(ctx, e.Event, &e.Data.CallID)
}

// deliver creates a delivery for every endpoint that wants the event, in the transaction of ctx.
func (s *Service) deliver(ctx context.Context, e event.Event, callID *string) error {
	who, err := about(e.Data)
	if err != nil {
		return err
	}
	if erased, err := s.erased(ctx, who); err != nil || erased {
		return err // the event had been published before the person was erased
	}
	endpoints, err := s.Endpoints.List(ctx)
	if err != nil {
		return err
	}
	var deliveries []Delivery
	for _, to := range endpoints {
		if to.Wants(e.Type) {
			deliveries = append(deliveries, create(to.ID, e, callID, who, s.Clock.Now()))
		}
	}
	if len(deliveries) == 0 {
		return nil
	}
	return s.Deliveries.Create(ctx, deliveries...)
}

const (
	// copyTimeout is how long after its arrival an event waits for the copies of the agent and client it names: their events
	// arrive on other topics.
	copyTimeout   = 30 * time.Second
	copyWait      = time.Second
	busyWait      = time.Second     // of a delivery whose endpoint uses all the workers it may use, ± 50 %
	recordTimeout = 5 * time.Second // of writing a result, also while the process stops
)

// Attempt runs the job of a delivery with that epoch: it sends the delivery and records the response. It returns nil once the
// stored delivery says what happens next, also if the job was superseded.
func (s *Service) Attempt(ctx context.Context, id string, epoch int64) error {
	if err := s.attempt(ctx, id, epoch); !superseded(err) {
		return err
	}
	return nil
}

// superseded reports whether err means that there is nothing left to do.
func superseded(err error) bool {
	return errors.Is(err, lease.ErrSuperseded) || fault.Is(err, fault.NotFound)
}

// refused reports whether the database refused a change, and would refuse it each time.
func refused(err error) bool {
	return err != nil && !superseded(err) && !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Timeout) &&
		!errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

func (s *Service) attempt(ctx context.Context, id string, epoch int64) error {
	d, err := s.Deliveries.Find(ctx, id)
	if err != nil {
		return err
	}
	if err := d.checkJob(epoch); err != nil {
		return err
	}
	to, err := s.Endpoints.Find(ctx, d.EndpointID)
	if err != nil {
		return err
	}
	if !to.Enabled {
		return s.change(ctx, id, func(d *Delivery) error { d.hold(*to.DisabledReason, s.Clock.Now()); return nil })
	}
	if !s.Bulkhead.acquire(to.ID) {
		return s.postpone(ctx, id, epoch, time.Duration(float64(busyWait)*(0.5+s.Jitter())))
	}
	defer s.Bulkhead.release(to.ID)
	body, err := s.body(ctx, d, to.Profile)
	if errors.Is(err, errPayload) {
		return s.reject(ctx, id, epoch, err)
	}
	if err != nil {
		return err
	}
	if body == nil {
		return s.postpone(ctx, id, epoch, copyWait)
	}
	d, err = s.Deliveries.Change(ctx, id, func(d *Delivery) ([]event.Event, error) {
		return nil, d.begin(epoch, s.Holder, body, s.Clock.Now())
	})
	if err != nil {
		return err
	}
	return s.send(ctx, d, to)
}

// send sends a delivery that this worker has begun, and records the response. If the process stops, it hands the delivery back
// instead.
func (s *Service) send(ctx context.Context, d Delivery, to endpoint.Endpoint) (err error) {
	a, epoch := Attempt{StartedAt: s.Clock.Now()}, d.Epoch
	a.Answer, err = s.Sender.Send(ctx, Message{URL: to.URL, Secrets: to.Signing(a.StartedAt), Event: d.Event, EventID: d.EventID, Body: d.Body})
	if err != nil {
		return err // the delivery is retried when the lease expires
	}
	a.LatencyMS = a.Took.Milliseconds()
	stopped := ctx.Err() != nil && a.StatusCode == nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if stopped {
		return s.change(ctx, d.ID, func(d *Delivery) error { return d.handBack(epoch, s.Clock.Now()) })
	}
	id := d.ID
	d, err = s.record(ctx, id, epoch, a)
	if refused(err) {
		// It would be sent again and again: its result is recorded without what comes from outside.
		s.Log.ErrorContext(ctx, "an answer cannot be stored", "delivery_id", id, "error", err)
		a.Excerpt, a.TraceID = "", ""
		d, err = s.record(ctx, id, epoch, a)
	}
	if err != nil {
		return err
	}
	s.Observer.Attempted(ctx, d, d.Log[len(d.Log)-1])
	if d.Status == Held {
		return s.disable(ctx, to.ID, endpoint.Gone)
	}
	return nil
}

func (s *Service) record(ctx context.Context, id string, epoch int64, a Attempt) (Delivery, error) {
	return s.Deliveries.Change(ctx, id, func(d *Delivery) ([]event.Event, error) {
		return d.record(epoch, a, s.Jitter(), s.Clock.Now())
	})
}

// disable disables an endpoint and holds its deliveries. A crash before it costs one more request, which also gets a 410.
func (s *Service) disable(ctx context.Context, endpointID, reason string) error {
	_, err := s.Endpoints.Change(ctx, endpointID, func(e *endpoint.Endpoint) error {
		e.Disable(reason, s.Clock.Now())
		return nil
	})
	if err != nil {
		return err
	}
	return s.Hold(ctx, endpointID, reason)
}

// Hold holds the open deliveries of a disabled endpoint. One that is being sent is held when its next job runs.
func (s *Service) Hold(ctx context.Context, endpointID, reason string) error {
	return s.Deliveries.ChangeEach(ctx, Selection{EndpointID: endpointID, Statuses: []Status{Pending, Retrying}}, func(d *Delivery) {
		d.hold(reason, s.Clock.Now())
	})
}

// Resume resumes the held deliveries of an endpoint that is enabled again.
func (s *Service) Resume(ctx context.Context, endpointID string) error {
	return s.Deliveries.ChangeEach(ctx, Selection{EndpointID: endpointID, Statuses: []Status{Held}}, func(d *Delivery) {
		d.resume(s.Clock.Now())
	})
}

// Rescue requeues the deliveries that a dead process was sending, or whose jobs it had fetched and not begun. It also resumes
// held deliveries of enabled endpoints: one may be held just after its endpoint was enabled, and a crash may prevent Resume.
func (s *Service) Rescue(ctx context.Context) error {
	reclaim := func(d *Delivery) { d.reclaim(s.Clock.Now()) }
	return errors.Join(s.Deliveries.ChangeEach(ctx, Selection{Expired: true}, reclaim), s.requeueAbandoned(ctx), s.resumeEnabled(ctx))
}

func (s *Service) resumeEnabled(ctx context.Context) error {
	endpoints, err := s.Endpoints.List(ctx)
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		if e.Enabled {
			if err := s.Resume(ctx, e.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) requeueAbandoned(ctx context.Context) error {
	abandoned, err := s.Jobs.ListAbandoned(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, j := range abandoned {
		err := s.change(ctx, j.DeliveryID, func(d *Delivery) error { return d.requeue(j.Epoch, s.Clock.Now()) })
		if !superseded(err) {
			failed = append(failed, err) // one that cannot be saved does not delay the others
		}
	}
	return errors.Join(failed...)
}

// reject ends a delivery that can never be sent, and logs the cause for developers.
func (s *Service) reject(ctx context.Context, id string, epoch int64, cause error) error {
	_, err := s.Deliveries.Change(ctx, id, func(d *Delivery) ([]event.Event, error) { return d.reject(epoch, s.Clock.Now()) })
	if err != nil {
		return err
	}
	s.Log.ErrorContext(ctx, "a delivery can never be sent", "error", cause)
	return nil
}

func (s *Service) postpone(ctx context.Context, id string, epoch int64, wait time.Duration) error {
	return s.change(ctx, id, func(d *Delivery) error { return d.postpone(epoch, wait, s.Clock.Now()) })
}

func (s *Service) change(ctx context.Context, id string, fn func(*Delivery) error) error {
	_, err := s.Deliveries.Change(ctx, id, func(d *Delivery) ([]event.Event, error) { return nil, fn(d) })
	return err
}

// body returns the body to send: the stored one of an earlier attempt, else a new one. It is nil while the copies that it needs
// may still arrive.
func (s *Service) body(ctx context.Context, d Delivery, p endpoint.Profile) ([]byte, error) {
	if d.Body != nil {
		return d.Body, nil
	}
	who, complete, err := s.people(ctx, d)
	if err != nil {
		return nil, err
	}
	if !complete && s.Clock.Now().Before(d.CreatedAt.Add(copyTimeout)) {
		return nil, nil
	}
	return render(p, d, who, links{s.PublicURL})
}
