package followup

import (
	"context"

	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Call is crm's copy of a call.
type Call struct {
	ID       string
	Version  int64 // of the call in calls; 0 when it was asked for, so that the first event wins
	AgentID  string
	ClientID *string
	LeadID   *string
	Status   string // pending, transcribing, completed, failed
	Deleted  bool
}

// Calls keeps the copies.
type Calls interface {
	// Find is CallNotFound for a call that no event has told of.
	Find(ctx context.Context, id string) (Call, error)
	// Change makes or replaces the copy, unless it is at that version or a newer one already.
	Change(ctx context.Context, c Call) error
}

// CallsService is the service that owns calls. Find asks it in the caller's name: NotFound, Forbidden and Unauthenticated
// are its answers, anything that goes wrong is Unavailable.
type CallsService interface {
	Find(ctx context.Context, id string) (Call, error)
}

// CallNotFound is the fault of a call that does not exist.
func CallNotFound() error { return fault.New(fault.NotFound, "call_not_found", "Call not found") }

func callForbidden() error {
	return fault.New(fault.Forbidden, "call_forbidden", "This call belongs to another agent")
}

// call is a call that the caller may schedule follow-ups for.
func (s *Service) call(ctx context.Context, caller identity.Caller, id string) (Call, error) {
	c, err := s.calls.Find(ctx, id)
	if fault.Is(err, fault.NotFound) {
		c, err = s.ask(ctx, id)
	}
	switch {
	case err != nil:
		return Call{}, err
	case c.Deleted:
		return Call{}, CallNotFound()
	case !caller.MaySee(c.AgentID):
		return Call{}, callForbidden()
	}
	return c, nil
}

// ask gets a call that was uploaded a moment ago, and whose event is still on its way, from its owner.
func (s *Service) ask(ctx context.Context, id string) (Call, error) {
	c, err := s.asked.Find(ctx, id)
	switch {
	case fault.Is(err, fault.NotFound):
		return Call{}, CallNotFound()
	case fault.Is(err, fault.Forbidden):
		return Call{}, callForbidden()
	case err != nil:
		return Call{}, err
	}
	return c, s.calls.Change(ctx, c)
}

// OnCallChanged takes over the state of a call. Follow-ups keep the client and lead that they were made for.
func (s *Service) OnCallChanged(ctx context.Context, e contract.Received[contract.Call]) error {
	return s.calls.Change(ctx, copyOf(e.Data))
}

// OnCallDeleted marks the copy. Follow-ups stay: what was promised to a client is still to be done.
func (s *Service) OnCallDeleted(ctx context.Context, e contract.Received[contract.Call]) error {
	c := copyOf(e.Data)
	c.Deleted = true
	return s.calls.Change(ctx, c)
}

func copyOf(c contract.Call) Call {
	return Call{ID: c.CallID, Version: c.Version, AgentID: c.AgentID, ClientID: c.ClientID, LeadID: c.LeadID, Status: c.Status}
}
