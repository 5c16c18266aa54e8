// Package events defines the events that the services publish: topics, event types and payloads. A payload is the complete state
// of its aggregate after the change, so that a new service can build its data from the topics alone. A payload may gain optional
// fields. Any other change is refused by the golden files in testdata, and needs a new topic version.
package events

import (
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// The topics, one per aggregate type and major version.
const (
	AgentsTopic     = "auth.agents.v1"
	CallsTopic      = "calls.calls.v1"
	ClientsTopic    = "crm.clients.v1"
	LeadsTopic      = "crm.leads.v1"
	FollowUpsTopic  = "crm.followups.v1"
	DeliveriesTopic = "notify.deliveries.v1"
	ErasuresTopic   = "erasures.v1"
)

// week is the unit of retention: how far back a consumer can replay.
const week = 7 * 24 * time.Hour

// Topics returns all topics of the platform with their event types.
func Topics() []event.Topic {
	return []event.Topic{
		{Name: AgentsTopic, Producer: "auth", Compacted: true, Types: []string{
			AgentRegistered.Name, AgentUpdated.Name, AgentDeactivated.Name, SessionRevoked.Name,
		}},
		{Name: CallsTopic, Producer: "calls", Retention: 4 * week, Types: []string{
			CallUploaded.Name, CallTranscribing.Name, TranscriptionCompleted.Name, TranscriptionFailed.Name, CallUpdated.Name, CallDeleted.Name,
		}},
		{Name: ClientsTopic, Producer: "crm", Compacted: true, Types: []string{
			ClientCreated.Name, ClientUpdated.Name, ClientDeleted.Name,
		}},
		{Name: LeadsTopic, Producer: "crm", Compacted: true, Types: []string{
			LeadImported.Name, LeadUpdated.Name, LeadDeleted.Name, LeadNoAnswer.Name, LeadNotInterested.Name, LeadCallbackRequested.Name,
			LeadInterested.Name, LeadPaymentPending.Name, LeadFuturePlanning.Name, LeadConverted.Name, LeadWrongNumber.Name, LeadUndecided.Name,
		}},
		{Name: FollowUpsTopic, Producer: "crm", Retention: 4 * week, Types: []string{
			FollowUpScheduled.Name, FollowUpUpdated.Name, FollowUpCompleted.Name, FollowUpDue.Name, FollowUpDeleted.Name,
		}},
		{Name: DeliveriesTopic, Producer: "notify", Retention: week, Types: []string{
			WebhookDelivered.Name, WebhookDead.Name,
		}},
		{Name: ErasuresTopic, Retention: 4 * week, Types: []string{ErasureRequested.Name, ErasureWaiting.Name, ErasureDone.Name}}, // every service publishes to it
	}
}
