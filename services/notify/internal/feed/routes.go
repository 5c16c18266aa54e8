// Package feed is the topics that notify reads.
package feed

import (
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// Routes subscribes the service.
func Routes(c *bus.Consumer, deliveries *delivery.Service) {
	// What is delivered.
	bus.On(c, events.TranscriptionCompleted, deliveries.OnTranscriptionCompleted)
	bus.On(c, events.FollowUpScheduled, deliveries.OnFollowUpScheduled)

	// Names and e-mails of agents, for payloads.
	bus.On(c, events.AgentRegistered, deliveries.OnAgentChanged)
	bus.On(c, events.AgentUpdated, deliveries.OnAgentChanged)
	bus.On(c, events.AgentDeactivated, deliveries.OnAgentChanged)

	// Names, phones and e-mails of clients, for payloads.
	bus.On(c, events.ClientCreated, deliveries.OnClientChanged)
	bus.On(c, events.ClientUpdated, deliveries.OnClientChanged)
	bus.On(c, events.ClientDeleted, deliveries.OnClientDeleted)
}
