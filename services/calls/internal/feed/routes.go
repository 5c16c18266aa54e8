// Package feed is what the service listens to.
package feed

import (
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Routes subscribes the service to the events of others.
func Routes(c *bus.Consumer, svc *call.Service) {
	bus.On(c, events.ClientCreated, svc.OnClient)
	bus.On(c, events.ClientUpdated, svc.OnClient)
	bus.On(c, events.ClientDeleted, svc.OnClientDeleted)
}
