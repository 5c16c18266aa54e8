package contract

import (
	"slices"
	"time"
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

// Topic is how a topic is kept.
type Topic struct {
	Name      string
	Producer  string        // the one service that publishes to it
	Compacted bool          // keeps the newest event of each key for ever
	Retention time.Duration // of a topic that is not compacted
}

// week is how far back a consumer can replay.
const week = 7 * 24 * time.Hour

// Topics lists them all.
func Topics() []Topic {
	return []Topic{
		{Name: AgentsTopic, Producer: "auth", Compacted: true},
		{Name: CallsTopic, Producer: "calls", Retention: 4 * week},
		{Name: ClientsTopic, Producer: "crm", Compacted: true},
		{Name: LeadsTopic, Producer: "crm", Compacted: true},
		{Name: FollowUpsTopic, Producer: "crm", Retention: 4 * week},
		{Name: DeliveriesTopic, Producer: "notify", Retention: week},
	}
}

// TopicOf returns the topic of that name.
func TopicOf(name string) (Topic, bool) {
	i := slices.IndexFunc(Topics(), func(t Topic) bool { return t.Name == name })
	if i < 0 {
		return Topic{}, false
	}
	return Topics()[i], true
}
