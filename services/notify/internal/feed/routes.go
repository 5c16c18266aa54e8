// Package feed is what notify listens to, on one screen.
package feed

import (
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// Routes subscribes the service to its topics.
func Routes(c *bus.Consumer, deliveries *delivery.Service) {
	// What webhooks are made of.
	bus.On(c, events.TranscriptionCompleted, deliveries.OnTranscriptionCompleted)
	bus.On(c, events.FollowUpScheduled, deliveries.OnFollowUpScheduled)

	// Who the agents are: names and e-mails in payloads.
	bus.On(c, events.AgentRegistered, deliveries.OnAgentChanged)
	bus.On(c, events.AgentUpdated, deliveries.OnAgentChanged)
	bus.On(c, events.AgentDeactivated, deliveries.OnAgentChanged)

	// Who the clients are: names, phones and e-mails in payloads.
	bus.On(c, events.ClientCreated, deliveries.OnClientChanged)
	bus.On(c, events.ClientUpdated, deliveries.OnClientChanged)
	bus.On(c, events.ClientDeleted, deliveries.OnClientDeleted)
}
