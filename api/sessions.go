package api

import (
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity/access"
)

// Sessions returns the feed on which auth publishes ended sessions and changed agents.
func Sessions() access.Feed {
	return access.Feed{Topic: events.AgentsTopic, Watch: func(w *bus.Watcher, sessionEnded func(string), agentChanged func(string, int64, bool)) {
		bus.Watch(w, events.SessionRevoked, func(e event.Received[events.SessionEnd]) { sessionEnded(e.Data.SessionID) })
		// A new agent is active, so its registration changes nothing.
		for _, t := range []event.Type[events.Agent]{events.AgentUpdated, events.AgentDeactivated} {
			bus.Watch(w, t, func(e event.Received[events.Agent]) { agentChanged(e.Data.AgentID, e.Data.Version, e.Data.IsActive) })
		}
	}}
}
