// Package agent owns crm's copies of the agents, the sales reps. It changes them only when auth, which owns the agents,
// publishes an event.
package agent

import (
	"context"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
)

// Agent is crm's copy of a sales rep. Its JSON is that of auth's API, from which it may be fetched.
type Agent struct {
	ID      string `json:"id"`
	Version int64  `json:"-"` // of auth's agent
	Name    string `json:"full_name"`
	Email   string `json:"email"`
	Active  bool   `json:"is_active"`
}

// Service copies agents from auth's events.
type Service struct{ Agents copies.Store[Agent] }

// OnAgentChanged copies the state of an agent.
func (s *Service) OnAgentChanged(ctx context.Context, e event.Received[events.Agent]) error {
	a := e.Data
	return s.Agents.Upsert(ctx, Agent{ID: a.AgentID, Version: a.Version, Name: a.FullName, Email: a.Email, Active: a.IsActive})
}
