// Package delivery owns the delivery of webhooks: one delivery per event and endpoint, from the event's arrival until it is
// delivered or dead with a reason; it is held while its endpoint is disabled. Replays make further ones. It refuses to drop a delivery,
// to send different bytes on a later attempt, and to record the result of a worker whose lease has expired.
package delivery

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
)

// Status is the status of a delivery.
type Status string

// The statuses. A delivered or dead delivery no longer changes.
const (
	Pending   Status = "pending"   // not attempted yet
	Retrying  Status = "retrying"  // attempted without success, to be retried
	Delivered Status = "delivered" // the receiver responded with 2xx
	Held      Status = "held"      // pending or retrying, and its endpoint is disabled. Only Shown returns it: it is not stored
	Dead      Status = "dead"      // every attempt of the schedule failed
)

// Delivery is the delivery of one event to one endpoint.
type Delivery struct {
	ID            string     `json:"id"`
	EndpointID    string     `json:"webhook_id"`
	Event         string     `json:"event"`    // the type
	EventID       string     `json:"event_id"` // the same on every attempt, for receivers to deduplicate by
	CallID        *string    `json:"call_id"`
	Status        Status     `json:"status"`
	NextAttemptAt *time.Time `json:"next_attempt_at"` // as read from the store; to change it, set NextAttemptIn
	Reason        *string    `json:"reason"`          // of the last failure
	ReplayOf      *string    `json:"replay_of"`       // the delivery that this one repeats
	ReplayID      *string    `json:"replay_id"`       // the request that made it
	Incomplete    bool       `json:"incomplete"`      // sent without fields of somebody that the event names, who was not known in time
	CreatedAt     time.Time  `json:"created_at"`
	DeliveredAt   *time.Time `json:"delivered_at"`
	UpdatedAt     time.Time  `json:"updated_at"`

	About     About             `json:"-"` // who the event is about
	EventTime time.Time         `json:"-"`
	IsTest    bool              `json:"-"` // a sample that is sent at once and not stored
	Data      json.RawMessage   `json:"-"` // the event's payload
	Body      []byte            `json:"-"` // what is sent: rendered at the first attempt, and then unchanged
	Trace     map[string]string `json:"-"` // W3C headers of the event, which every attempt continues; set by the store

	// Disabled is why its endpoint is disabled; nil while it is enabled. EndpointEpoch rises when that changes.
	Disabled      *string `json:"-"`
	EndpointEpoch int64   `json:"-"`

	// Lease says which worker sends the delivery. Its Attempts include requests without a result, which a stop or a crash
	// interrupted; Requests does not.
	lease.Lease `json:"-"`
	// NextAttemptIn is the time until the next attempt of an open delivery, by the database's clock.
	NextAttemptIn *time.Duration `json:"-"`

	// Log is the recorded attempts. Find reads it; Change starts with an empty one and saves what was added.
	Log []Attempt `json:"-"`
}

// About is who an event is about. Its JSON is that of the payloads of events.
type About struct {
	AgentID    *string `json:"agent_id"`
	ClientID   *string `json:"client_id"`
	LeadID     *string `json:"lead_id"`
	FollowUpID *string `json:"followup_id"`
}

// about reads who an event is about.
func about(data json.RawMessage) (a About, err error) {
	var lead struct {
		AssignedAgentID *string `json:"assigned_agent_id"` // a lead's agent
	}
	if err := errors.Join(json.Unmarshal(data, &a), json.Unmarshal(data, &lead)); err != nil {
		return a, fault.Wrap(err, fault.Invalid, "bad_payload", "The payload does not say who it is about")
	}
	if a.AgentID == nil {
		a.AgentID = lead.AssignedAgentID
	}
	return a, nil
}

// Shown returns the status and the reason that people see: a delivery that waits for an endpoint that is disabled is held.
func (d Delivery) Shown() (Status, *string) {
	if d.open() && d.Disabled != nil {
		return Held, new("endpoint_" + *d.Disabled)
	}
	return d.Status, d.Reason
}

// Version rises with every change of what people see: of the delivery, or of its endpoint.
func (d Delivery) Version() int64 { return d.Epoch + d.EndpointEpoch }

// Requests returns how many requests have been recorded.
func (d Delivery) Requests() int {
	if d.Status == Delivered {
		return d.Failures + 1
	}
	return d.Failures
}

// Attempt is one request and its result.
type Attempt struct {
	Number    int       `json:"number"` // from 1
	StartedAt time.Time `json:"started_at"`
	LatencyMS int64     `json:"latency_ms"`
	Answer
}

// Answer is a receiver's response, or why there is none.
type Answer struct {
	StatusCode *int `json:"status_code"` // of HTTP; null without a response
	// Error is timeout, dns, connect, tls, address_refused, connection_lost or secret_invalid; null with a response.
	Error      *string       `json:"error"`
	Excerpt    string        `json:"answer"` // first kilobyte of the body
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

// gone reports whether the receiver has been removed for good: 410 Gone.
func (a Answer) gone() bool { return a.status() == 410 }

// problem returns a short stable code for why an attempt failed.
func (a Answer) problem() string {
	if a.Error != nil {
		return *a.Error
	}
	return fmt.Sprintf("status_%d", a.status())
}

// leaseTTL is how long a worker holds the lease of a delivery. It exceeds the longest request (pabbly.Timeout) plus the time to
// record its result, so it needs no renewal. After it, what a killed worker was sending is sent again.
const leaseTTL = 20 * time.Second

// create returns the delivery of an event.
func create(endpointID string, e event.Event, callID *string, who About, now time.Time) Delivery {
	return Delivery{
		ID: event.NewID(), EndpointID: endpointID, About: who, Event: e.Type, EventID: e.ID, CallID: callID, Status: Pending, NextAttemptIn: new(time.Duration(0)),
		CreatedAt: now, UpdatedAt: now, EventTime: e.Time, Data: e.Data, Lease: lease.New(),
	}
}

func (d *Delivery) open() bool { return d.Status == Pending || d.Status == Retrying }

// begin gives the delivery to a worker, also if the lease of another has expired. The time at which it was due is left, so that it is the
// first again if the worker dies.
func (d *Delivery) begin(holder string, now time.Time) error {
	if !d.open() {
		return lease.ErrSuperseded
	}
	d.UpdatedAt = now
	if d.Expired() {
		d.Stop()
	}
	return d.Begin(d.Epoch, holder, leaseTTL)
}

// postpone ends the lease of that epoch without an attempt: the delivery is due after the wait.
func (d *Delivery) postpone(epoch int64, wait time.Duration, now time.Time) error {
	if err := d.Defer(epoch, wait); err != nil {
		return err
	}
	d.NextAttemptIn, d.UpdatedAt = &wait, now
	return nil
}

// handBack ends the lease of that epoch without a result: the delivery is still due. begun says that a request had begun.
func (d *Delivery) handBack(epoch int64, begun bool, now time.Time) error {
	if err := d.HandBack(epoch); err != nil {
		return err
	}
	if !begun {
		d.Attempts--
	}
	d.UpdatedAt = now
	return nil
}

// record ends the lease of that epoch with an attempt. jitter is 0 to 1.
func (d *Delivery) record(epoch int64, a Attempt, jitter float64, now time.Time) ([]event.Event, error) {
	a.Number = d.Requests() + 1
	if a.ok() {
		if err := d.End(epoch); err != nil {
			return nil, err
		}
		d.Log, d.DeliveredAt = append(d.Log, a), &now
		return d.finish(Delivered, nil, now), nil
	}
	wait, again := backoff(a.Number, a.RetryAfter, jitter)
	if err := d.Fail(epoch, wait, again); err != nil {
		return nil, err
	}
	d.Log = append(d.Log, a)
	problem := a.problem()
	if !again {
		return d.finish(Dead, &problem, now), nil
	}
	d.Status, d.Reason, d.NextAttemptIn, d.UpdatedAt = Retrying, &problem, &wait, now
	return nil, nil
}

// reject ends the delivery of the worker with that epoch before its first attempt: it has no payload that can be sent.
func (d *Delivery) reject(epoch int64, now time.Time) ([]event.Event, error) {
	if err := d.End(epoch); err != nil {
		return nil, err
	}
	return d.finish(Dead, new("payload_invalid"), now), nil
}

// discard ends a waiting delivery.
func (d *Delivery) discard(reason string, now time.Time) []event.Event {
	d.Stop()
	return d.finish(Dead, &reason, now)
}

// finish sets the last status of a delivery whose lease has ended.
func (d *Delivery) finish(s Status, reason *string, now time.Time) []event.Event {
	d.Status, d.Reason, d.NextAttemptIn, d.UpdatedAt = s, reason, nil, now
	if s == Delivered {
		return []event.Event{events.WebhookDelivered.New(now, d.state(now))}
	}
	return []event.Event{events.WebhookDead.New(now, d.state(now))}
}

func (d *Delivery) state(now time.Time) events.Delivery {
	return events.Delivery{
		DeliveryID: d.ID, EndpointID: d.EndpointID, EventID: d.EventID, EventType: d.Event, CallID: d.CallID,
		FollowUpID: d.About.FollowUpID, ClientID: d.About.ClientID, LeadID: d.About.LeadID,
		Status: string(d.Status), Attempts: d.Requests(), Reason: d.Reason, EndedAt: now,
	}
}

// NotFound is the fault of a delivery that does not exist.
func NotFound() error { return fault.New(fault.NotFound, "delivery_not_found", "Delivery not found") }
