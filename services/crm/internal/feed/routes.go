// Package feed is what crm listens to.
package feed

import (
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

// Routes subscribes the services.
func Routes(c *bus.Consumer, followups *followup.Service, agents *agent.Service) {
	bus.On(c, contract.CallUploaded, followups.OnCallChanged)
	bus.On(c, contract.CallTranscribing, followups.OnCallChanged)
	bus.On(c, contract.TranscriptionCompleted, followups.OnCallChanged)
	bus.On(c, contract.TranscriptionFailed, followups.OnCallChanged)
	bus.On(c, contract.CallUpdated, followups.OnCallChanged)
	bus.On(c, contract.CallDeleted, followups.OnCallDeleted)

	bus.On(c, contract.AgentRegistered, agents.OnAgentChanged)
	bus.On(c, contract.AgentUpdated, agents.OnAgentChanged)
	bus.On(c, contract.AgentDeactivated, agents.OnAgentChanged)
}
