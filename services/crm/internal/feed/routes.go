// Package feed is what crm listens to.
package feed

import (
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

// Routes subscribes the services.
func Routes(c *bus.Consumer, followups *followup.Service, agents *agent.Service) {
	bus.On(c, events.CallUploaded, followups.OnCallChanged)
	bus.On(c, events.CallTranscribing, followups.OnCallChanged)
	bus.On(c, events.TranscriptionCompleted, followups.OnCallChanged)
	bus.On(c, events.TranscriptionFailed, followups.OnCallChanged)
	bus.On(c, events.CallUpdated, followups.OnCallChanged)
	bus.On(c, events.CallDeleted, followups.OnCallDeleted)

	bus.On(c, events.AgentRegistered, agents.OnAgentChanged)
	bus.On(c, events.AgentUpdated, agents.OnAgentChanged)
	bus.On(c, events.AgentDeactivated, agents.OnAgentChanged)
}
