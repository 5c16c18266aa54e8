package feed

import (
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// LeadRoutes subscribes the leads to what happens to calls.
func LeadRoutes(c *bus.Consumer, leads *lead.Service) {
	bus.On(c, leads.OnCallChanged, events.CallUploaded, events.TranscriptionCompleted, events.CallUpdated)
}
