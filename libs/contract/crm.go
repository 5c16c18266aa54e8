package contract

import "time"

// What crm tells about clients.
var (
	ClientCreated = Type[Client]{"client.created", ClientsTopic}
	ClientUpdated = Type[Client]{"client.updated", ClientsTopic}
	ClientDeleted = Type[Client]{"client.deleted", ClientsTopic}
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
	FollowUpScheduled = Type[FollowUp]{"followup.scheduled", FollowUpsTopic}
	FollowUpUpdated   = Type[FollowUp]{"followup.updated", FollowUpsTopic}
	FollowUpCompleted = Type[FollowUp]{"followup.completed", FollowUpsTopic}
	FollowUpDue       = Type[FollowUp]{"followup.due", FollowUpsTopic}
	FollowUpDeleted   = Type[FollowUp]{"followup.deleted", FollowUpsTopic}
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
