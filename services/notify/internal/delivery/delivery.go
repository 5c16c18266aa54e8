// Package delivery owns the webhooks on their way: one delivery per event and endpoint, from the moment the event is seen
// until it is delivered, dead with a reason, or held because its endpoint is disabled. It refuses to forget one, to send
// other bytes on a later attempt, and the result of a worker that has lost its lease.
package delivery

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// Status is where a delivery is.
type Status string

// The statuses. A delivery that was delivered or is dead does not change any more.
const (
	Pending   Status = "pending"   // not tried yet
	Retrying  Status = "retrying"  // tried, to be tried again
	Delivered Status = "delivered" // the receiver answered 2xx
	Held      Status = "held"      // its endpoint is disabled
	Dead      Status = "dead"      // every attempt of the schedule failed
)

// Delivery is one event on its way to one endpoint, also as the API lists it.
type Delivery struct {
	ID            string     `json:"id"`
	EndpointID    string     `json:"webhook_id"`
	Event         string     `json:"event"`    // the type
	EventID       string     `json:"event_id"` // the same on every attempt, for receivers to deduplicate by
	CallID        *string    `json:"call_id"`
	Status        Status     `json:"status"`
	Attempts      int        `json:"attempts"`
	NextAttemptAt *time.Time `json:"next_attempt_at"` // of an open one
	Reason        *string    `json:"reason"`          // what went wrong last
	CreatedAt     time.Time  `json:"created_at"`
	DeliveredAt   *time.Time `json:"delivered_at"`
	UpdatedAt     time.Time  `json:"updated_at"`

	EventTime time.Time       `json:"-"`
	Data      json.RawMessage `json:"-"` // the event's payload
	Body      []byte          `json:"-"` // what is sent, rendered at the first attempt and the same ever after

	// Epoch names the job whose turn it is. Everything that makes a new job raises it, and a job or result with an older
	// one does nothing.
	Epoch      int64      `json:"-"`
	LeaseUntil *time.Time `json:"-"` // set while a worker sends

	// Log is the attempts. Find fills it; Change begins without and saves what was added.
	Log []Attempt `json:"-"`
}

// Attempt is one request and what became of it.
type Attempt struct {
	Number    int       `json:"number"` // from 1
	StartedAt time.Time `json:"started_at"`
	LatencyMS int64     `json:"latency_ms"`
	Answer
}

// Answer is what a receiver said, or why it said nothing.
type Answer struct {
	StatusCode *int          `json:"status_code"` // of HTTP; null when nothing came back
	Error      *string       `json:"error"`       // timeout, dns, connect, tls, address_refused, connection_lost, secret_invalid; null when there was an answer
	Excerpt    string        `json:"answer"`      // its first kilobyte
	TraceID    string        `json:"trace_id"`
	RetryAfter time.Duration `json:"-"` // of a 429 or 503
	Took       time.Duration `json:"-"`
}

func (a Answer) status() int {
	if a.StatusCode == nil {
		return 0
	}
	return *a.StatusCode
}

func (a Answer) ok() bool { return a.status() >= 200 && a.status() < 300 }

// gone says that the receiver will never be there again, by HTTP's status for it.
func (a Answer) gone() bool { return a.status() == 410 }

// problem is a short stable word for what went wrong.
func (a Answer) problem() string {
	if a.Error != nil {
		return *a.Error
	}
	return fmt.Sprintf("status_%d", a.status())
}

// lease is how long a worker may hold a delivery: longer than a request may take (pabbly.Timeout) and its result takes to be
// written. What a killed worker held is sent again after it.
const lease = 20 * time.Second

// errStale says that the job or worker has been overtaken: its delivery has ended, or another job has the turn.
var errStale = errors.New("not this job's turn any more")

func create(endpointID string, e event.Event, callID *string, now time.Time) Delivery {
	return Delivery{
		ID: event.NewID(), EndpointID: endpointID, Event: e.Type, EventID: e.ID, CallID: callID, Status: Pending,
		NextAttemptAt: &now, CreatedAt: now, UpdatedAt: now, EventTime: e.Time, Data: e.Data, Epoch: 1,
	}
}

func (d *Delivery) open() bool { return d.Status == Pending || d.Status == Retrying }

// turnOf checks that the job of that epoch may begin.
func (d *Delivery) turnOf(epoch int64) error {
	if d.Epoch != epoch || !d.open() || d.LeaseUntil != nil {
		return errStale
	}
	return nil
}

// take gives the delivery to the worker of that epoch, with what it will send.
func (d *Delivery) take(epoch int64, body []byte, now time.Time) error {
	if err := d.turnOf(epoch); err != nil {
		return err
	}
	until := now.Add(lease)
	d.Body, d.LeaseUntil, d.UpdatedAt = body, &until, now
	return nil
}

// queue makes a new job for that time and takes the turn away from any other.
func (d *Delivery) queue(at, now time.Time) {
	d.Epoch++
	d.NextAttemptAt, d.LeaseUntil, d.UpdatedAt = &at, nil, now
}

// postpone moves the turn of that epoch, without having tried.
func (d *Delivery) postpone(epoch int64, at, now time.Time) error {
	if err := d.turnOf(epoch); err != nil {
		return err
	}
	d.queue(at, now)
	return nil
}

// holds checks that the worker of that epoch still has the delivery.
func (d *Delivery) holds(epoch int64) error {
	if d.Epoch != epoch || !d.open() || d.LeaseUntil == nil {
		return errStale
	}
	return nil
}

// giveBack ends the lease of that epoch without a result.
func (d *Delivery) giveBack(epoch int64, now time.Time) error {
	if err := d.holds(epoch); err != nil {
		return err
	}
	d.queue(now, now)
	return nil
}

// record ends the lease of that epoch with what the receiver said.
func (d *Delivery) record(epoch int64, a Attempt, wobble float64, now time.Time) ([]event.Event, error) {
	if err := d.holds(epoch); err != nil {
		return nil, err
	}
	d.Attempts++
	a.Number = d.Attempts
	d.Log = append(d.Log, a)
	if a.ok() {
		d.end(Delivered, nil, now)
		d.DeliveredAt = &now
		return []event.Event{events.WebhookDelivered.New(now, d.state(now))}, nil
	}
	problem := a.problem()
	if a.gone() {
		d.end(Held, heldBecause(endpoint.Gone), now)
		return nil, nil
	}
	wait, ok := backoff(d.Attempts, a.RetryAfter, wobble)
	if !ok {
		d.end(Dead, &problem, now)
		return []event.Event{events.WebhookDead.New(now, d.state(now))}, nil
	}
	d.Status, d.Reason = Retrying, &problem
	d.queue(now.Add(wait), now)
	return nil, nil
}

// hold stops an open delivery that nobody is sending.
func (d *Delivery) hold(endpointReason string, now time.Time) {
	if d.open() && d.LeaseUntil == nil {
		d.end(Held, heldBecause(endpointReason), now)
	}
}

// resume makes a held delivery open again.
func (d *Delivery) resume(now time.Time) {
	if d.Status != Held {
		return
	}
	d.Status, d.Reason = Pending, nil
	if d.Attempts > 0 {
		d.Status = Retrying
	}
	d.queue(now, now)
}

func (d *Delivery) end(s Status, reason *string, now time.Time) {
	d.Status, d.Reason, d.NextAttemptAt, d.LeaseUntil, d.UpdatedAt = s, reason, nil, nil, now
}

func heldBecause(endpointReason string) *string {
	reason := "endpoint_" + endpointReason
	return &reason
}

func (d *Delivery) state(now time.Time) events.Delivery {
	return events.Delivery{
		DeliveryID: d.ID, EndpointID: d.EndpointID, EventID: d.EventID, EventType: d.Event, CallID: d.CallID,
		Status: string(d.Status), Attempts: d.Attempts, Reason: d.Reason, EndedAt: now,
	}
}

// NotFound is the fault of a delivery that does not exist.
func NotFound() error { return fault.New(fault.NotFound, "delivery_not_found", "Delivery not found") }
