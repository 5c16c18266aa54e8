// Package feed is what calls listens to.
package feed

import (
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Routes subscribes the service.
func Routes(c *bus.Consumer, calls *call.Service) {
	bus.On(c, events.ClientCreated, calls.OnClientChanged)
	bus.On(c, events.ClientUpdated, calls.OnClientChanged)
	bus.On(c, events.ClientDeleted, calls.OnClientDeleted)
}
