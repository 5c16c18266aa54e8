// Package feed is what the service listens to.
package feed

import (
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Routes subscribes the service to the events of others.
func Routes(c *bus.Consumer, svc *call.Service) {
	bus.On(c, contract.ClientCreated, svc.OnClient)
	bus.On(c, contract.ClientUpdated, svc.OnClient)
	bus.On(c, contract.ClientDeleted, svc.OnClientDeleted)
}
