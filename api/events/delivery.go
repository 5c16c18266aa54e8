package events

import (
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// Events of notify about webhook deliveries.
var (
	WebhookDelivered = event.Type[Delivery]{Name: "webhook.delivered", Topic: DeliveriesTopic}
	WebhookDead      = event.Type[Delivery]{Name: "webhook.dead", Topic: DeliveriesTopic}
	// EndpointDisabled is published when the platform disables an endpoint, not when a person does.
	EndpointDisabled = event.Type[Endpoint]{Name: "webhook.endpoint_disabled", Topic: DeliveriesTopic}
)

// Delivery is the delivery of one event to one endpoint.
type Delivery struct {
	DeliveryID string    `json:"delivery_id"`
	EndpointID string    `json:"endpoint_id"`
	EventID    string    `json:"event_id"`
	EventType  string    `json:"event_type"`
	CallID     *string   `json:"call_id"`
	FollowUpID *string   `json:"followup_id"` // if the event is about one; the same for the next two
	ClientID   *string   `json:"client_id"`
	LeadID     *string   `json:"lead_id"`
	Status     string    `json:"status"` // delivered, dead
	Attempts   int       `json:"attempts"`
	Reason     *string   `json:"reason"` // of a dead delivery
	EndedAt    time.Time `json:"ended_at"`
}

// AggregateID returns the delivery's id.
func (d Delivery) AggregateID() string { return d.DeliveryID }

// Endpoint is a receiver of webhooks that was disabled. Its URL is a secret, so it is not included.
type Endpoint struct {
	EndpointID   string     `json:"endpoint_id"`
	Version      int64      `json:"version"`
	Description  string     `json:"description"`
	Reason       string     `json:"reason"`        // gone, failing
	FailingSince *time.Time `json:"failing_since"` // the first of the failed attempts, if it did not say that it is gone at once
	DisabledAt   time.Time  `json:"disabled_at"`
}

// AggregateID returns the endpoint's id.
func (e Endpoint) AggregateID() string { return e.EndpointID }
