package events

import (
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// Events of crm about clients.
var (
	ClientCreated = event.Type[Client]{Name: "client.created", Topic: ClientsTopic}
	ClientUpdated = event.Type[Client]{Name: "client.updated", Topic: ClientsTopic}
	ClientDeleted = event.Type[Client]{Name: "client.deleted", Topic: ClientsTopic}
)

// Client is a customer. The event of a deleted client has only ids, its version and times, so that consumers erase the rest.
type Client struct {
	ClientID string  `json:"client_id"`
	Version  int64   `json:"version"` // incremented by each change
	AgentID  string  `json:"agent_id"`
	Name     string  `json:"name"`
	Email    *string `json:"email"`
	Phone    *string `json:"phone"` // E.164
	Company  *string `json:"company"`
	// MergedInto is the client that a deleted one was merged into: what names the deleted one now belongs to it.
	MergedInto *string   `json:"merged_into"`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// AggregateID returns the client's id.
func (c Client) AggregateID() string { return c.ClientID }

// Events of crm about follow-ups.
var (
	FollowUpScheduled = event.Type[FollowUp]{Name: "followup.scheduled", Topic: FollowUpsTopic}
	FollowUpUpdated   = event.Type[FollowUp]{Name: "followup.updated", Topic: FollowUpsTopic}
	FollowUpCompleted = event.Type[FollowUp]{Name: "followup.completed", Topic: FollowUpsTopic}
	FollowUpDue       = event.Type[FollowUp]{Name: "followup.due", Topic: FollowUpsTopic}
	FollowUpDeleted   = event.Type[FollowUp]{Name: "followup.deleted", Topic: FollowUpsTopic}
)

// FollowUp is a task with a due date that results from a call.
type FollowUp struct {
	FollowUpID  string     `json:"followup_id"`
	Version     int64      `json:"version"` // incremented by each change
	CallID      string     `json:"call_id"`
	ClientID    *string    `json:"client_id"`
	LeadID      *string    `json:"lead_id"`
	AgentID     string     `json:"agent_id"`
	DueDate     *time.Time `json:"due_date"` // null for a follow-up without a date
	Task        *string    `json:"task"`
	Notes       *string    `json:"notes"`
	Status      string     `json:"status"` // suggested, pending, completed, dismissed
	Source      string     `json:"source"` // agent, ai
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	CompletedAt *time.Time `json:"completed_at"`
}

// AggregateID returns the follow-up's id.
func (f FollowUp) AggregateID() string { return f.FollowUpID }
