package agent

import (
	"context"

	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/fault"
)

// Team answers who works for the team. It implements lead.Agents.
type Team struct{ Agents copies.Of[Agent] }

// NewTeam returns the team of the copies in store. fetch reads an agent from auth.
func NewTeam(store copies.Store[Agent], fetch copies.Fetch[Agent]) Team {
	checked := func(ctx context.Context, id string) (Agent, error) {
		a, err := fetch(ctx, id)
		if err == nil && a.ID != id {
			err = fault.New(fault.Unavailable, "service_unavailable", "A part of the platform does not answer right now, try again")
		}
		return a, err
	}
	return Team{copies.Of[Agent]{Store: store, Fetch: checked, NotFound: notFound, Forbidden: notFound}}
}

// Owner implements copies.Object: an agent belongs to itself.
func (a Agent) Owner() (agentID string, exists bool) { return a.ID, true }

func notFound() error { return fault.New(fault.NotFound, "agent_not_found", "Agent not found") }

// Ensure fetches an agent from auth if its event has not arrived yet. It must not run in a transaction. It fails with
// agent_not_found.
func (t Team) Ensure(ctx context.Context, id string) error { return t.Agents.Ensure(ctx, id) }

// Check fails with agent_not_found or agent_inactive unless the agent works.
func (t Team) Check(ctx context.Context, id string) error {
	a, ok, err := t.Agents.Find(ctx, id)
	switch {
	case err != nil:
		return err
	case !ok:
		return notFound()
	case !a.Active:
		return fault.New(fault.Conflict, "agent_inactive", "This agent is deactivated")
	}
	return nil
}
