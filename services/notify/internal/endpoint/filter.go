package endpoint

import (
	"slices"
	"strings"

	"github.com/convoflow/convoflow/api/events"
)

// Everything is the filter that matches every event.
const Everything = "*"

// EventTypes returns the types of events that an endpoint can get. The contract has the same list.
func EventTypes() []string {
	types := []string{
		events.TranscriptionCompleted.Name, events.TranscriptionFailed.Name,
		events.FollowUpScheduled.Name, events.FollowUpDue.Name, events.FollowUpCompleted.Name,
	}
	for _, t := range events.LeadChanges() {
		types = append(types, t.Name)
	}
	return append(types, events.EndpointDisabled.Name)
}

// group returns the filter of all types with the same first part: lead.* of lead.imported.
func group(eventType string) string {
	first, _, _ := strings.Cut(eventType, ".")
	return first + ".*"
}

// Wants reports whether the endpoint has a delivery of events of that type. While it is disabled these are held.
func (e Endpoint) Wants(eventType string) bool {
	return e.DeletedAt == nil && slices.ContainsFunc(e.Events, func(filter string) bool {
		return filter == Everything || filter == eventType || filter == group(eventType)
	})
}
