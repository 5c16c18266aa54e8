// Package feed subscribes auth to events.
package feed

import (
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// Routes subscribes the service.
func Routes(c *bus.Consumer, agents *agent.Service) {
	bus.On(c, agents.OnErasureRequested, events.ErasureRequested)
}
