package call

import (
	"context"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Lead is the copy of a lead that crm owns. Its JSON is that of crm's API, from which it may be fetched.
type Lead struct {
	ID      string  `json:"id"`
	Version int64   `json:"-"`                 // of crm's lead
	AgentID *string `json:"assigned_agent_id"` // nil while nobody works on it
	Phone   *string `json:"-"`                 // E.164
	Deleted bool    `json:"-"`
}

// Leads is the copies of leads.
type Leads interface {
	copies.Store[Lead]
	// FindByPhone reads the copy of the lead with that number in E.164 that was not deleted.
	FindByPhone(ctx context.Context, phone string) (lead Lead, ok bool, err error)
}

// Phones finds clients by their numbers.
type Phones interface {
	// FindByPhone reads the copy of an agent's client with that number in E.164 that was not deleted.
	FindByPhone(ctx context.Context, agentID, phone string) (client Client, ok bool, err error)
}

// NormalizePhone converts a phone number to E.164; ok is false for an invalid number.
type NormalizePhone func(number string) (e164 string, ok bool)

// LeadNotFound is the fault of a lead that does not exist, or was deleted.
func LeadNotFound() error { return fault.New(fault.NotFound, "lead_not_found", "Lead not found") }

func leadForbidden() error {
	return fault.New(fault.Forbidden, "lead_forbidden", "This lead belongs to another agent")
}

// maySee reports whether the caller may name the lead: its agent and admins may, and everybody if nobody works on it.
func (l Lead) maySee(caller identity.Caller) bool {
	return l.AgentID == nil || caller.MaySee(*l.AgentID)
}

// checkLead fails with lead_not_found or lead_forbidden unless the caller may name the lead.
func (s *Service) checkLead(ctx context.Context, caller identity.Caller, id string) error {
	l, ok, err := s.Leads.Find(ctx, id)
	switch {
	case err != nil:
		return err
	case !ok, l.Deleted:
		return LeadNotFound()
	case !l.maySee(caller):
		return leadForbidden()
	}
	return nil
}

// ensureLead fetches and stores a lead from crm if its event has not arrived yet. It must not run in a transaction.
func (s *Service) ensureLead(ctx context.Context, id *string) error {
	if id == nil {
		return nil
	}
	return copies.Of[leadObject]{
		Store: leadObjects{s.Leads}, NotFound: LeadNotFound, Forbidden: leadForbidden,
		Fetch: func(ctx context.Context, id string) (leadObject, error) {
			l, err := s.FetchLead(ctx, id)
			return leadObject{l}, err
		},
	}.Ensure(ctx, *lower(id))
}

// leadObject is a Lead for copies.Of, of which only Ensure is used: it does not ask for the owner.
type leadObject struct{ Lead }

// Owner implements copies.Object.
func (l leadObject) Owner() (agentID string, exists bool) { return "", !l.Deleted }

type leadObjects struct{ Leads }

// Find implements copies.Store.
func (l leadObjects) Find(ctx context.Context, id string) (leadObject, bool, error) {
	found, ok, err := l.Leads.Find(ctx, id)
	return leadObject{found}, ok, err
}

// Upsert implements copies.Store.
func (l leadObjects) Upsert(ctx context.Context, x leadObject) error {
	return l.Leads.Upsert(ctx, x.Lead)
}

// OnLeadChanged copies the state of a lead.
func (s *Service) OnLeadChanged(ctx context.Context, e event.Received[events.Lead]) error {
	return s.Leads.Upsert(ctx, Lead{ID: e.Data.LeadID, Version: e.Data.Version, AgentID: e.Data.AssignedAgentID, Phone: e.Data.Phone})
}

// OnLeadDeleted marks the copy as deleted and erases the number, so that an event that arrives late does not bring it back.
func (s *Service) OnLeadDeleted(ctx context.Context, e event.Received[events.Lead]) error {
	return s.Leads.Upsert(ctx, Lead{ID: e.Data.LeadID, Version: e.Data.Version, Deleted: true})
}

// OnLeadNoAnswer writes the call of an attempt that an agent has reported. It has the id that the event gives it, so that it is
// written once however often the event arrives.
func (s *Service) OnLeadNoAnswer(ctx context.Context, e event.Received[events.Lead]) error {
	l := e.Data
	if l.AttemptID == nil || l.AssignedAgentID == nil {
		return nil // nobody has called: a recorded call, or a form, says so
	}
	if lead, ok, err := s.Leads.Find(ctx, l.LeadID); err != nil || ok && lead.Deleted {
		return err // its erasure came first
	}
	at := e.Time.UTC()
	details := Details{LeadID: &l.LeadID, CallType: defaultType, CallTag: tagNoAnswer, RecordedAt: at}
	c, uploaded := WithoutRecording(*l.AttemptID, *l.AssignedAgentID, details, at)
	return s.Calls.CreateOnce(ctx, c, uploaded...)
}
