package endpoint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/fault"
)

// Everything is the filter that matches every event.
const Everything = "*"

// EventTypes returns the types of events that an endpoint can get, in the order of the documentation.
func EventTypes() []string {
	types := []string{
		events.TranscriptionCompleted.Name, events.TranscriptionFailed.Name,
		events.FollowUpScheduled.Name, events.FollowUpDue.Name, events.FollowUpCompleted.Name,
	}
	for _, t := range events.LeadChanges() {
		types = append(types, t.Name)
	}
	return types
}

// group returns the filter of all types with the same first part: lead.* of lead.imported.
func group(eventType string) string {
	first, _, _ := strings.Cut(eventType, ".")
	return first + ".*"
}

// Filters returns everything that an endpoint's list of events may contain.
func Filters() []string {
	filters := []string{Everything}
	for _, t := range EventTypes() {
		if !slices.Contains(filters, group(t)) {
			filters = append(filters, group(t))
		}
	}
	return append(filters, EventTypes()...)
}

// Wants reports whether the endpoint's filter matches events of that type, whether or not it is enabled.
func (e Endpoint) Wants(eventType string) bool {
	return slices.ContainsFunc(e.Events, func(filter string) bool {
		return filter == Everything || filter == eventType || filter == group(eventType)
	})
}

// checkFilters returns the invalid ones of a list of filters.
func checkFilters(filters []string) (wrong []fault.Field) {
	known := Filters()
	for i, filter := range filters {
		if !slices.Contains(known, filter) {
			wrong = append(wrong, fault.Field{Type: "enum", Loc: []any{"body", "events", i}, Msg: fmt.Sprintf("Input should be one of %s", strings.Join(known, ", "))})
		}
	}
	return wrong
}
