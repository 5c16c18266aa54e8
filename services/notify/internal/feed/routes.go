// Package feed is what notify listens to, on one screen.
package feed

import (
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// Routes subscribes the service to its topics.
func Routes(c *bus.Consumer, deliveries *delivery.Service) {
	// What webhooks are made of.
	bus.On(c, contract.TranscriptionCompleted, deliveries.OnTranscriptionCompleted)
	bus.On(c, contract.FollowUpScheduled, deliveries.OnFollowUpScheduled)

	// Who the agents are: names and e-mails in payloads.
	bus.On(c, contract.AgentRegistered, deliveries.OnAgentChanged)
	bus.On(c, contract.AgentUpdated, deliveries.OnAgentChanged)
	bus.On(c, contract.AgentDeactivated, deliveries.OnAgentChanged)

	// Who the clients are: names, phones and e-mails in payloads.
	bus.On(c, contract.ClientCreated, deliveries.OnClientChanged)
	bus.On(c, contract.ClientUpdated, deliveries.OnClientChanged)
	bus.On(c, contract.ClientDeleted, deliveries.OnClientDeleted)
}
