// Package feed subscribes crm to events.
package feed

import (
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/erasure"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// Routes subscribes the services. Two that read one type of event run in the order of their lines.
func Routes(c *bus.Consumer, followups *followup.Service, leads *lead.Service, agents *agent.Service, erasures *erasure.Service) {
	bus.On(c, followups.OnCallChanged, events.CallUploaded, events.CallTranscribing, events.TranscriptionFailed, events.CallUpdated)
	bus.On(c, followups.OnCallCompleted, events.TranscriptionCompleted)
	bus.On(c, followups.OnCallDeleted, events.CallDeleted)
	bus.On(c, leads.OnCallChanged, events.CallUploaded, events.TranscriptionCompleted, events.CallUpdated)
	bus.On(c, agents.OnAgentChanged, events.AgentRegistered, events.AgentUpdated, events.AgentDeactivated)
	bus.On(c, followups.OnDeliveryEnded, events.WebhookDelivered, events.WebhookDead)
	bus.On(c, erasures.OnErasureRequested, events.ErasureRequested)
	bus.On(c, erasures.OnErasureDone, events.ErasureDone)
	bus.On(c, erasures.OnErasureWaiting, events.ErasureWaiting)
}
