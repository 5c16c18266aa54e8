package events

import (
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// Events of notify about webhook deliveries.
var (
	WebhookDelivered = event.Type[Delivery]{Name: "webhook.delivered", Topic: DeliveriesTopic}
	WebhookDead      = event.Type[Delivery]{Name: "webhook.dead", Topic: DeliveriesTopic}
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
