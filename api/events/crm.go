package events

import (
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// What crm tells about clients.
var (
	ClientCreated = event.Type[Client]{Name: "client.created", Topic: ClientsTopic}
	ClientUpdated = event.Type[Client]{Name: "client.updated", Topic: ClientsTopic}
	ClientDeleted = event.Type[Client]{Name: "client.deleted", Topic: ClientsTopic}
)

// Client is a customer. A deleted one has only its ids, version and times: the event carries the erasure.
type Client struct {
	ClientID  string    `json:"client_id"`
	Version   int64     `json:"version"` // grows by one with each change
	AgentID   string    `json:"agent_id"`
	Name      string    `json:"name"`
	Email     *string   `json:"email"`
	Phone     *string   `json:"phone"` // E.164
	Company   *string   `json:"company"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// AggregateID is the client's id.
func (c Client) AggregateID() string { return c.ClientID }

// What crm tells about follow-ups.
var (
	FollowUpScheduled = event.Type[FollowUp]{Name: "followup.scheduled", Topic: FollowUpsTopic}
	FollowUpUpdated   = event.Type[FollowUp]{Name: "followup.updated", Topic: FollowUpsTopic}
	FollowUpCompleted = event.Type[FollowUp]{Name: "followup.completed", Topic: FollowUpsTopic}
	FollowUpDue       = event.Type[FollowUp]{Name: "followup.due", Topic: FollowUpsTopic}
	FollowUpDeleted   = event.Type[FollowUp]{Name: "followup.deleted", Topic: FollowUpsTopic}
)

// FollowUp is a dated task from a call.
type FollowUp struct {
	FollowUpID  string     `json:"followup_id"`
	Version     int64      `json:"version"` // grows by one with each change
	CallID      string     `json:"call_id"`
	ClientID    *string    `json:"client_id"`
	LeadID      *string    `json:"lead_id"`
	AgentID     string     `json:"agent_id"`
	DueDate     time.Time  `json:"due_date"`
	Task        *string    `json:"task"`
	Notes       *string    `json:"notes"`
	Status      string     `json:"status"` // suggested, pending, completed, dismissed
	Source      string     `json:"source"` // agent, ai
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	CompletedAt *time.Time `json:"completed_at"`
}

// AggregateID is the follow-up's id.
func (f FollowUp) AggregateID() string { return f.FollowUpID }
