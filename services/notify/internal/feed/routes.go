// Package feed subscribes notify to events.
package feed

import (
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// Routes subscribes the service.
func Routes(c *bus.Consumer, deliveries *delivery.Service) {
	// Events to deliver.
	bus.On(c, deliveries.OnTranscriptionCompleted, events.TranscriptionCompleted, events.TranscriptionFailed)
	bus.On(c, deliveries.OnFollowUp, events.FollowUpScheduled, events.FollowUpCompleted, events.FollowUpDue)
	bus.On(c, deliveries.OnLeadChanged, events.LeadChanges()...) // also copies
	// The agents, clients and leads in the payloads.
	bus.On(c, deliveries.OnAgentChanged, events.AgentRegistered, events.AgentUpdated, events.AgentDeactivated)
	bus.On(c, deliveries.OnClientChanged, events.ClientCreated, events.ClientUpdated)
	bus.On(c, deliveries.OnClientDeleted, events.ClientDeleted)
	bus.On(c, deliveries.OnErasureRequested, events.ErasureRequested)
	bus.On(c, deliveries.OnLeadDeleted, events.LeadDeleted)
}
