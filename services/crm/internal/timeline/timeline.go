// Package timeline owns what happened with a client or lead, in one list: calls, follow-ups, deliveries to the team's automations,
// and changes of the client or lead itself. It refuses to decide who may see it: the owner of the client or lead does.
package timeline

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/page"
)

// Kind is the kind of an item.
type Kind string

// The kinds. There is one item for each call, follow-up and delivery, which shows its newest state.
const (
	Call     Kind = "call"
	FollowUp Kind = "followup"
	Delivery Kind = "delivery" // of an event to an automation
	Change   Kind = "change"   // of the client or lead
)

// Item is one line of a timeline. Its JSON is that of the API.
type Item struct {
	ID         string     `json:"id"` // of the call, follow-up or delivery; a change has one of its own
	Kind       Kind       `json:"kind"`
	At         time.Time  `json:"at"`
	Version    int64      `json:"-"` // of the call or follow-up; an older one changes nothing
	ClientID   *string    `json:"-"`
	LeadID     *string    `json:"-"`
	CallID     *string    `json:"call_id"`
	FollowUpID *string    `json:"followup_id"`
	AgentID    *string    `json:"agent_id"` // whose call or follow-up it is; who made the change
	Event      *string    `json:"event"`    // type of the delivered event, or of the change
	Title      *string    `json:"title"`    // of the call; the task of a follow-up
	Status     *string    `json:"status"`
	Reason     *string    `json:"reason"` // why a delivery is dead; why a call or the AI has moved a lead
	DueDate    *time.Time `json:"due_date"`
	Fields     []string   `json:"fields"` // names of what a change changed
}

// Filter selects a page of the items of one client or lead, newest first.
type Filter struct {
	ClientID, LeadID string // one of them
	page.Request
}

// Request is the query of the timeline of a client or lead.
type Request struct {
	ID string `path:"id"`
	page.Request
}

// Store stores items.
type Store interface {
	copies.Store[Item]
	List(ctx context.Context, f Filter) (page.Of[Item], error)
	// Remove removes an item. It succeeds if there is none.
	Remove(ctx context.Context, id string) error
}
