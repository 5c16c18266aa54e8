// Package feed subscribes calls to events.
package feed

import (
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Routes subscribes the service.
func Routes(c *bus.Consumer, calls *call.Service) {
	bus.On(c, calls.OnClientChanged, events.ClientCreated, events.ClientUpdated)
	bus.On(c, calls.OnClientDeleted, events.ClientDeleted)
	bus.On(c, calls.OnErasureRequested, events.ErasureRequested)
	bus.On(c, calls.OnLeadChanged, events.LeadChanges()...)
	bus.On(c, calls.OnLeadNoAnswer, events.LeadNoAnswer)
	bus.On(c, calls.OnLeadDeleted, events.LeadDeleted)
	bus.On(c, calls.OnDelivered, events.WebhookDelivered)
}
