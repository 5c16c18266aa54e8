// Package events is what the services publish: the topics, the event types and their payloads. A payload is the whole state
// of its aggregate after the change, so that a new service can be built from the topics alone. It only ever gains optional
// fields; anything else is a new topic version. The golden files in testdata hold it to that.
package events

import (
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// The topics, one per aggregate and major version.
const (
	AgentsTopic     = "auth.agents.v1"
	CallsTopic      = "calls.calls.v1"
	ClientsTopic    = "crm.clients.v1"
	LeadsTopic      = "crm.leads.v1"
	FollowUpsTopic  = "crm.followups.v1"
	DeliveriesTopic = "notify.deliveries.v1"
)

// week is how far back a consumer can replay.
const week = 7 * 24 * time.Hour

// Topics lists every topic of the platform with its types.
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
		{Name: LeadsTopic, Producer: "crm", Compacted: true},
		{Name: FollowUpsTopic, Producer: "crm", Retention: 4 * week, Types: []string{
			FollowUpScheduled.Name, FollowUpUpdated.Name, FollowUpCompleted.Name, FollowUpDue.Name, FollowUpDeleted.Name,
		}},
		{Name: DeliveriesTopic, Producer: "notify", Retention: week, Types: []string{
			WebhookDelivered.Name, WebhookDead.Name,
		}},
	}
}
