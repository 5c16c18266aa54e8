package delivery

import (
	"context"
	"errors"
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

// Store stores deliveries. One that does not exist is the fault NotFound. The job that a delivery's lease asks for is inserted
// in the transaction of the change.
type Store interface {
	// Create adds deliveries. One for an event and endpoint that has one already is left out.
	Create(ctx context.Context, deliveries ...Delivery) error
	// Find reads a delivery with its attempts.
	Find(ctx context.Context, id string) (Delivery, error)
	// List reads deliveries without their data, body and attempts.
	List(ctx context.Context, f Filter) (page.Of[Delivery], error)
	// Change lets fn change the delivery under a lock, and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*Delivery) ([]event.Event, error)) (Delivery, error)
	// ChangeEach lets fn change every selected delivery, except those that somebody else is changing. fn must take each out
	// of the selection.
	ChangeEach(ctx context.Context, s Selection, fn func(*Delivery)) error
}

// Selection chooses deliveries to change.
type Selection struct {
	// Expired chooses those whose worker has lost its lease, the oldest first, regardless of the other fields.
	Expired bool
	// EndpointID and Statuses choose deliveries of an endpoint that no worker is sending.
	EndpointID string
	Statuses   []Status
}

// Jobs lists jobs of deliveries.
type Jobs interface {
	// ListAbandoned lists jobs that a process fetched a while ago; it may have died before it began.
	ListAbandoned(ctx context.Context) ([]Abandoned, error)
}

// Abandoned is a job that a process may have fetched and never begun.
type Abandoned struct {
	DeliveryID string
	Epoch      int64
}

// Endpoints are where deliveries go.
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

// Sender sends a message and returns the answer, within a timeout of its own that is shorter than the lease. A request that
// fails is an Answer too; an error means that the message must not be sent from here, such as from inside a transaction.
type Sender interface {
	Send(ctx context.Context, m Message) (Answer, error)
}

// Observer is called after every attempt that was recorded.
type Observer interface {
	Attempted(ctx context.Context, d Delivery, a Attempt)
}

// Parts is what the service is made of.
type Parts struct {
	Deliveries Store
	Jobs       Jobs
	Endpoints  Endpoints
	Agents     copies.Store[Agent]
	Clients    copies.Store[Client]
	Sender     Sender
	Observer   Observer
	Clock      clock.Clock
	Jitter     func() float64 // 0 to 1, spreads what would happen at the same moment
	Holder     string         // names this process in leases
	PublicURL  string         // of the API, for the links in payloads
	Workers    int            // of this process
}

// Service delivers webhooks.
type Service struct {
	deliveries Store
	jobs       Jobs
	endpoints  Endpoints
	agents     copies.Store[Agent]
	clients    copies.Store[Client]
	sender     Sender
	observer   Observer
	clock      clock.Clock
	jitter     func() float64
	holder     string
	links      links
	bulkhead   *bulkhead
}

// NewService makes the service.
func NewService(p Parts) *Service {
	return &Service{
		deliveries: p.Deliveries, jobs: p.Jobs, endpoints: p.Endpoints, agents: p.Agents, clients: p.Clients, sender: p.Sender, observer: p.Observer,
		clock: p.Clock, jitter: p.Jitter, holder: p.Holder, links: links{p.PublicURL}, bulkhead: newBulkhead(p.Workers),
	}
}

// OnTranscriptionCompleted makes the deliveries of a transcribed call.
func (s *Service) OnTranscriptionCompleted(ctx context.Context, e event.Received[events.Call]) error {
	return s.deliver(ctx, e.Event, &e.Data.CallID)
}

// OnFollowUpScheduled makes the deliveries of a new follow-up.
func (s *Service) OnFollowUpScheduled(ctx context.Context, e event.Received[events.FollowUp]) error {
	return s.deliver(ctx, e.Event, &e.Data.CallID)
}

// deliver makes a delivery for every endpoint that wants the event, in the transaction of ctx.
func (s *Service) deliver(ctx context.Context, e event.Event, callID *string) error {
	endpoints, err := s.endpoints.List(ctx)
	if err != nil {
		return err
	}
	var deliveries []Delivery
	for _, to := range endpoints {
		if to.Wants(e.Type) {
			deliveries = append(deliveries, create(to.ID, e, callID, s.clock.Now()))
		}
	}
	if len(deliveries) == 0 {
		return nil
	}
	return s.deliveries.Create(ctx, deliveries...)
}

const (
	// copyTimeout is how long after its arrival an event waits for the copies of the agent and client it names: their events
	// come on other topics.
	copyTimeout   = 30 * time.Second
	copyWait      = time.Second
	busyWait      = time.Second     // of a delivery whose endpoint has all the workers it may have, give or take a half
	recordTimeout = 5 * time.Second // of writing a result, also while the process stops
)

// Attempt does the job of a delivery with that epoch: it sends the delivery and records the answer. It returns nil when the row
// says what happens next, also when the job was superseded.
func (s *Service) Attempt(ctx context.Context, id string, epoch int64) error {
	if err := s.attempt(ctx, id, epoch); !superseded(err) {
		return err
	}
	return nil
}

// superseded reports whether err says that there is nothing to do any more.
func superseded(err error) bool {
	return errors.Is(err, lease.ErrSuperseded) || fault.Is(err, fault.NotFound)
}

func (s *Service) attempt(ctx context.Context, id string, epoch int64) error {
	d, err := s.deliveries.Find(ctx, id)
	if err != nil {
		return err
	}
	if err := d.checkJob(epoch); err != nil {
		return err
	}
	to, err := s.endpoints.Find(ctx, d.EndpointID)
	if err != nil {
		return err
	}
	if !to.Enabled {
		return s.change(ctx, id, func(d *Delivery) error { d.hold(*to.DisabledReason, s.clock.Now()); return nil })
	}
	if !s.bulkhead.acquire(to.ID) {
		return s.postpone(ctx, id, epoch, time.Duration(float64(busyWait)*(0.5+s.jitter())))
	}
	defer s.bulkhead.release(to.ID)
	body, err := s.body(ctx, d, to.Profile)
	if err != nil {
		return err
	}
	if body == nil {
		return s.postpone(ctx, id, epoch, copyWait)
	}
	d, err = s.deliveries.Change(ctx, id, func(d *Delivery) ([]event.Event, error) {
		return nil, d.begin(epoch, s.holder, body, s.clock.Now())
	})
	if err != nil {
		return err
	}
	return s.send(ctx, d, to)
}

// send sends a delivery that this worker has begun, and records the answer. A process that stops hands the delivery back
// instead.
func (s *Service) send(ctx context.Context, d Delivery, to endpoint.Endpoint) (err error) {
	a, epoch := Attempt{StartedAt: s.clock.Now()}, d.Epoch
	a.Answer, err = s.sender.Send(ctx, Message{URL: to.URL, Secrets: to.Secrets, Event: d.Event, EventID: d.EventID, Body: d.Body})
	if err != nil {
		return err // the lease expires, and the delivery is tried again then
	}
	a.LatencyMS = a.Took.Milliseconds()
	stopped := ctx.Err() != nil && a.StatusCode == nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if stopped {
		return s.change(ctx, d.ID, func(d *Delivery) error { return d.handBack(epoch, s.clock.Now()) })
	}
	d, err = s.deliveries.Change(ctx, d.ID, func(d *Delivery) ([]event.Event, error) {
		return d.record(epoch, a, s.jitter(), s.clock.Now())
	})
	if err != nil {
		return err
	}
	s.observer.Attempted(ctx, d, d.Log[len(d.Log)-1])
	if d.Status == Held {
		return s.disable(ctx, to.ID, endpoint.Gone)
	}
	return nil
}

// disable stops everything to an endpoint. A crash before it costs one more request: the next delivery is answered 410 too.
func (s *Service) disable(ctx context.Context, endpointID, reason string) error {
	_, err := s.endpoints.Change(ctx, endpointID, func(e *endpoint.Endpoint) error {
		e.Disable(reason, s.clock.Now())
		return nil
	})
	if err != nil {
		return err
	}
	return s.Hold(ctx, endpointID, reason)
}

// Hold stops the open deliveries of a disabled endpoint. One that is being sent is held when its next job runs.
func (s *Service) Hold(ctx context.Context, endpointID, reason string) error {
	return s.deliveries.ChangeEach(ctx, Selection{EndpointID: endpointID, Statuses: []Status{Pending, Retrying}}, func(d *Delivery) {
		d.hold(reason, s.clock.Now())
	})
}

// Resume sends the held deliveries of an endpoint that is enabled again.
func (s *Service) Resume(ctx context.Context, endpointID string) error {
	return s.deliveries.ChangeEach(ctx, Selection{EndpointID: endpointID, Statuses: []Status{Held}}, func(d *Delivery) {
		d.resume(s.clock.Now())
	})
}

// Rescue sends again what a process that died was sending, or had fetched and not begun.
func (s *Service) Rescue(ctx context.Context) error {
	reclaim := func(d *Delivery) { d.reclaim(s.clock.Now()) }
	return errors.Join(s.deliveries.ChangeEach(ctx, Selection{Expired: true}, reclaim), s.requeueAbandoned(ctx))
}

func (s *Service) requeueAbandoned(ctx context.Context) error {
	abandoned, err := s.jobs.ListAbandoned(ctx)
	if err != nil {
		return err
	}
	for _, j := range abandoned {
		err := s.change(ctx, j.DeliveryID, func(d *Delivery) error { return d.requeue(j.Epoch, s.clock.Now()) })
		if err != nil && !superseded(err) {
			return err
		}
	}
	return nil
}

func (s *Service) postpone(ctx context.Context, id string, epoch int64, wait time.Duration) error {
	return s.change(ctx, id, func(d *Delivery) error { return d.postpone(epoch, wait, s.clock.Now()) })
}

func (s *Service) change(ctx context.Context, id string, fn func(*Delivery) error) error {
	_, err := s.deliveries.Change(ctx, id, func(d *Delivery) ([]event.Event, error) { return nil, fn(d) })
	return err
}

// body is what is sent: the stored body of an earlier attempt, else a new one. It is nil while the copies that it needs may
// still arrive.
func (s *Service) body(ctx context.Context, d Delivery, p endpoint.Profile) ([]byte, error) {
	if d.Body != nil {
		return d.Body, nil
	}
	who, complete, err := s.people(ctx, d)
	if err != nil {
		return nil, err
	}
	if !complete && s.clock.Now().Before(d.CreatedAt.Add(copyTimeout)) {
		return nil, nil
	}
	return render(p, d, who, s.links)
}
