package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// Store keeps deliveries. One that does not exist is the fault NotFound. Whatever raises a delivery's epoch and leaves it a
// next attempt gets a job for it, in the same transaction.
type Store interface {
	// Create adds deliveries with their first jobs. One for an event and endpoint that has one already is left out.
	Create(ctx context.Context, deliveries ...Delivery) error
	Find(ctx context.Context, id string) (Delivery, error)
	List(ctx context.Context, f Filter) (Page, error)
	// Change lets fn change the delivery while nobody else can, and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*Delivery) ([]event.Event, error)) (Delivery, error)
	// ChangeEach does that to every delivery that is selected, passing over those that somebody else is changing. fn must
	// take each out of the selection.
	ChangeEach(ctx context.Context, s Selection, fn func(*Delivery)) error
}

// Selection chooses deliveries to change.
type Selection struct {
	EndpointID string // empty for all
	Statuses   []Status
	DueBefore  time.Time // zero for whenever
	// LeaseEnded chooses those whose lease ended before; zero chooses those without a lease.
	LeaseEnded time.Time
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

// Sender sends a message and says what came of it, within a time limit of its own that is shorter than the lease.
type Sender interface {
	Send(ctx context.Context, m Message) Answer
}

// Watcher hears of every attempt that was recorded.
type Watcher interface {
	Attempted(ctx context.Context, d Delivery, a Attempt)
}

// Parts is what the service is made of.
type Parts struct {
	Deliveries Store
	Endpoints  Endpoints
	Agents     Agents
	Clients    Clients
	Sender     Sender
	Watcher    Watcher
	Clock      clock.Clock
	Wobble     func() float64 // 0 to 1, spreads what would happen at the same moment
	PublicURL  string         // of the API, for the links in payloads
	Workers    int            // of this process
}

// Service delivers webhooks.
type Service struct {
	deliveries Store
	endpoints  Endpoints
	agents     Agents
	clients    Clients
	sender     Sender
	watcher    Watcher
	clock      clock.Clock
	wobble     func() float64
	links      links
	lanes      *lanes
	began      time.Time
}

// NewService makes the service.
func NewService(p Parts) *Service {
	return &Service{
		deliveries: p.Deliveries, endpoints: p.Endpoints, agents: p.Agents, clients: p.Clients, sender: p.Sender, watcher: p.Watcher,
		clock: p.Clock, wobble: p.Wobble, links: links{p.PublicURL}, lanes: newLanes(p.Workers), began: p.Clock.Now(),
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

// deliver notes the event for every endpoint that wants it, in the transaction of ctx.
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
	// patience is how long after its arrival an event waits for the agent and client it names: they come on other topics.
	patience  = 30 * time.Second
	askAgain  = time.Second
	crowded   = time.Second     // until a delivery whose endpoint is busy is looked at again, give or take a half
	recording = 5 * time.Second // to write a result down, also while the process stops
)

// Attempt is the turn of a delivery's job of that epoch: it sends the delivery and records what became of it. It returns nil
// when the row says what happens next, also when the job was overtaken.
func (s *Service) Attempt(ctx context.Context, id string, epoch int64) error {
	err := s.attempt(ctx, id, epoch)
	if errors.Is(err, errStale) || fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

func (s *Service) attempt(ctx context.Context, id string, epoch int64) error {
	d, err := s.deliveries.Find(ctx, id)
	if err != nil {
		return err
	}
	if err := d.turnOf(epoch); err != nil {
		return err
	}
	to, err := s.endpoints.Find(ctx, d.EndpointID)
	if err != nil {
		return err
	}
	if !to.Enabled {
		return s.change(ctx, id, func(d *Delivery) error { d.hold(*to.DisabledReason, s.clock.Now()); return nil })
	}
	if !s.lanes.enter(to.ID) {
		return s.postpone(ctx, id, epoch, time.Duration(float64(crowded)*(0.5+s.wobble())))
	}
	defer s.lanes.leave(to.ID)
	body, err := s.body(ctx, d, to.Profile)
	if err != nil {
		return err
	}
	if body == nil {
		return s.postpone(ctx, id, epoch, askAgain)
	}
	if err := s.change(ctx, id, func(d *Delivery) error { return d.take(epoch, body, s.clock.Now()) }); err != nil {
		return err
	}
	return s.send(ctx, id, epoch, to, Message{URL: to.URL, Secrets: to.Secrets, Event: d.Event, EventID: d.EventID, Body: body})
}

// send sends what this worker has taken and records the answer. A process that stops gives the delivery back instead.
func (s *Service) send(ctx context.Context, id string, epoch int64, to endpoint.Endpoint, m Message) error {
	a := Attempt{StartedAt: s.clock.Now()}
	a.Answer = s.sender.Send(ctx, m)
	a.LatencyMS = a.Took.Milliseconds()
	stopped := ctx.Err() != nil && a.StatusCode == nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recording)
	defer cancel()
	if stopped {
		return s.change(ctx, id, func(d *Delivery) error { return d.giveBack(epoch, s.clock.Now()) })
	}
	d, err := s.deliveries.Change(ctx, id, func(d *Delivery) ([]event.Event, error) {
		return d.record(epoch, a, s.wobble(), s.clock.Now())
	})
	if err != nil {
		return err
	}
	s.watcher.Attempted(ctx, d, d.Log[len(d.Log)-1])
	if d.Status == Held {
		return s.disable(ctx, to.ID, endpoint.Gone)
	}
	return nil
}

// disable stops everything to an endpoint. A crash before it costs one more request: the next delivery hears 410 as well.
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

// Hold stops the open deliveries of a disabled endpoint. One that is being sent is held when its next turn comes.
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

// Rescue sends again what a killed process was sending, and what was due before this process began: the job of such a
// delivery may belong to a process that is gone, and a job too many does nothing.
func (s *Service) Rescue(ctx context.Context) error {
	again := func(d *Delivery) { now := s.clock.Now(); d.queue(now, now) }
	open := []Status{Pending, Retrying}
	return errors.Join(
		s.deliveries.ChangeEach(ctx, Selection{Statuses: open, LeaseEnded: s.clock.Now()}, again),
		s.deliveries.ChangeEach(ctx, Selection{Statuses: open, DueBefore: s.began}, again),
	)
}

func (s *Service) postpone(ctx context.Context, id string, epoch int64, by time.Duration) error {
	now := s.clock.Now()
	return s.change(ctx, id, func(d *Delivery) error { return d.postpone(epoch, now.Add(by), now) })
}

func (s *Service) change(ctx context.Context, id string, fn func(*Delivery) error) error {
	_, err := s.deliveries.Change(ctx, id, func(d *Delivery) ([]event.Event, error) { return nil, fn(d) })
	return err
}

// body is what is sent: what was sent before, else a new rendering. It is nil while somebody the event names is still to be
// heard of.
func (s *Service) body(ctx context.Context, d Delivery, p endpoint.Profile) ([]byte, error) {
	if d.Body != nil {
		return d.Body, nil
	}
	who, complete, err := s.people(ctx, d)
	if err != nil {
		return nil, err
	}
	if !complete && s.clock.Now().Before(d.CreatedAt.Add(patience)) {
		return nil, nil
	}
	return render(p, d, who, s.links)
}

func (s *Service) people(ctx context.Context, d Delivery) (who people, complete bool, err error) {
	var about struct {
		AgentID  string  `json:"agent_id"`
		ClientID *string `json:"client_id"`
	}
	if err := json.Unmarshal(d.Data, &about); err != nil {
		return who, false, err
	}
	agent, knowsAgent, err := s.agents.Find(ctx, about.AgentID)
	if err != nil {
		return who, false, err
	}
	if knowsAgent {
		who.agent = &agent
	}
	if about.ClientID == nil {
		return who, knowsAgent, nil
	}
	client, knowsClient, err := s.clients.Find(ctx, *about.ClientID)
	if err != nil {
		return who, false, err
	}
	if knowsClient {
		who.client = &client
	}
	return who, knowsAgent && knowsClient, nil
}
