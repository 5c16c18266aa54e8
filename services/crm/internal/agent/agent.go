// Package agent is crm's copy of who the sales reps are. It owns nothing: auth does, and every change comes from there.
package agent

import (
	"context"

	"github.com/convoflow/convoflow/libs/contract"
)

// Agent is what crm knows of a sales rep.
type Agent struct {
	ID      string
	Version int64 // of auth's agent
	Name    string
	Email   string
	Active  bool
}

// Store keeps the copies.
type Store interface {
	// Change makes or replaces the copy, unless it is at that version or a newer one already.
	Change(ctx context.Context, a Agent) error
}

// Service follows auth's events.
type Service struct{ agents Store }

// NewService makes the service.
func NewService(agents Store) *Service { return &Service{agents} }

// OnAgentChanged takes over the state of an agent.
func (s *Service) OnAgentChanged(ctx context.Context, e contract.Received[contract.Agent]) error {
	a := e.Data
	return s.agents.Change(ctx, Agent{ID: a.AgentID, Version: a.Version, Name: a.FullName, Email: a.Email, Active: a.IsActive})
}
