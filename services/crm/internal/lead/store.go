package lead

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/page"
)

// Store stores leads. A lead that does not exist is the fault NotFound; a phone number that another lead has is the fault Exists.
type Store interface {
	Create(ctx context.Context, l Lead, events ...event.Event) error
	Find(ctx context.Context, id string) (Lead, error)
	// FindByPhone reads the lead with that phone number in E.164.
	FindByPhone(ctx context.Context, phone string) (Lead, error)
	List(ctx context.Context, f Filter) (page.Of[Lead], error)
	// Change lets fn change the lead under a lock, and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*Lead) ([]event.Event, error)) (Lead, error)
	// ChangeAll lets fn change the leads with these ids under a lock, and saves them with their events in a constant number of
	// statements. It returns the ids of those that exist.
	ChangeAll(ctx context.Context, ids []string, fn func(*Lead) (Outcome, []event.Event, error)) (found []string, err error)
	Remove(ctx context.Context, id string, fn func(*Lead) ([]event.Event, error)) error
	// CreateAll writes new leads in a constant number of statements, with the events that eventOf returns. It leaves out those whose
	// phone number another lead has, and returns the ids of the others.
	CreateAll(ctx context.Context, leads []Lead, eventOf func(*Lead) event.Event) (created []string, err error)
	// FindByPhones returns the ids and agents of the leads with these phone numbers, by phone number.
	FindByPhones(ctx context.Context, phones []string) (map[string]Owned, error)
}

// Owned is a lead and whose it is.
type Owned struct {
	LeadID  string
	AgentID *string
}

// Outcome is what becomes of a lead in Store.ChangeAll.
type Outcome int

// The outcomes.
const (
	Unchanged Outcome = iota // not changed
	Saved
	Removed
)

// Order is the order of a list.
type Order struct {
	// By is default (new ones first, then by next follow-up, then newest), callbacks (those with a callback first, then as default),
	// or a field: created_at, updated_at, name, next_followup_at, callback_scheduled_at, last_contacted_at, followup_count.
	By   string
	Desc bool
}

// Filter selects a page of leads.
type Filter struct {
	AgentID        string // empty for all agents
	Unassigned     bool   // only those without an agent, instead of AgentID
	Status         string
	IntentCategory string
	Campaign       string
	UntouchedSince *time.Time // only open leads whose last contact, or else creation, is earlier
	Q              string     // part of the name, phone, e-mail or campaign
	Order          Order
	page.Request
}
