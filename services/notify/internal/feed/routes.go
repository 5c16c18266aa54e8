// Package feed is the events that notify reads.
package feed

import (
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// Routes subscribes the service.
func Routes(c *bus.Consumer, deliveries *delivery.Service) {
	// What is delivered.
	bus.On(c, deliveries.OnTranscriptionCompleted, events.TranscriptionCompleted)
	bus.On(c, deliveries.OnFollowUpScheduled, events.FollowUpScheduled)
	// The people in its payloads.
	bus.On(c, deliveries.OnAgentChanged, events.AgentRegistered, events.AgentUpdated, events.AgentDeactivated)
	bus.On(c, deliveries.OnClientChanged, events.ClientCreated, events.ClientUpdated)
	bus.On(c, deliveries.OnClientDeleted, events.ClientDeleted)
}
