// Package agent is crm's copy of who the sales reps are. It owns nothing: auth does, and every change comes from there.
package agent

import (
	"context"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
)

// Agent is crm's copy of a sales rep.
type Agent struct {
	ID      string
	Version int64 // of auth's agent
	Name    string
	Email   string
	Active  bool
}

// Service follows auth's events.
type Service struct{ agents copies.Store[Agent] }

// NewService makes the service.
func NewService(agents copies.Store[Agent]) *Service { return &Service{agents} }

// OnAgentChanged copies the state of an agent.
func (s *Service) OnAgentChanged(ctx context.Context, e event.Received[events.Agent]) error {
	a := e.Data
	return s.agents.Upsert(ctx, Agent{ID: a.AgentID, Version: a.Version, Name: a.FullName, Email: a.Email, Active: a.IsActive})
}
