package followup

import (
	"context"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Call is crm's copy of a call.
type Call struct {
	ID       string
	Version  int64 // of the call in calls; 0 for a copy that was not made from an event, so that the first event replaces it
	AgentID  string
	ClientID *string
	LeadID   *string
	Status   string // pending, transcribing, completed, failed
	Deleted  bool
}

// Calls stores the copies.
type Calls interface {
	// Find is false for a call that no event has named yet.
	Find(ctx context.Context, id string) (c Call, ok bool, err error)
	// Upsert stores a copy; one that is not newer than the stored one is ignored.
	Upsert(ctx context.Context, c Call) error
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
	c, ok, err := s.calls.Find(ctx, id)
	switch {
	case err != nil:
		return Call{}, err
	case !ok, c.Deleted:
		return Call{}, CallNotFound()
	case !caller.MaySee(c.AgentID):
		return Call{}, callForbidden()
	}
	return c, nil
}

// learn copies a call that was uploaded a moment ago, and whose event is still on its way, from its owner.
func (s *Service) learn(ctx context.Context, id string) error {
	if _, ok, err := s.calls.Find(ctx, id); ok || err != nil {
		return err
	}
	c, err := s.remote.Find(ctx, id)
	switch {
	case fault.Is(err, fault.NotFound):
		return CallNotFound()
	case fault.Is(err, fault.Forbidden):
		return callForbidden()
	case err != nil:
		return err
	}
	return s.calls.Upsert(ctx, c)
}

// OnCallChanged copies the state of a call. Follow-ups keep the client and lead that they were made for.
func (s *Service) OnCallChanged(ctx context.Context, e event.Received[events.Call]) error {
	return s.calls.Upsert(ctx, copyOf(e.Data))
}

// OnCallDeleted marks the copy. Follow-ups stay: what was promised to a client is still to be done.
func (s *Service) OnCallDeleted(ctx context.Context, e event.Received[events.Call]) error {
	c := copyOf(e.Data)
	c.Deleted = true
	return s.calls.Upsert(ctx, c)
}

func copyOf(c events.Call) Call {
	return Call{ID: c.CallID, Version: c.Version, AgentID: c.AgentID, ClientID: c.ClientID, LeadID: c.LeadID, Status: c.Status}
}
