package events

import (
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// Events of auth about agents and sessions.
var (
	AgentRegistered  = event.Type[Agent]{Name: "agent.registered", Topic: AgentsTopic}
	AgentUpdated     = event.Type[Agent]{Name: "agent.updated", Topic: AgentsTopic}
	AgentDeactivated = event.Type[Agent]{Name: "agent.deactivated", Topic: AgentsTopic}
	SessionRevoked   = event.Type[SessionEnd]{Name: "session.revoked", Topic: AgentsTopic}
)

// Agent is a sales representative: a user of the API.
type Agent struct {
	AgentID   string    `json:"agent_id"`
	Version   int64     `json:"version"` // incremented by each change
	Email     string    `json:"email"`
	FullName  string    `json:"full_name"`
	Role      string    `json:"role"` // agent or admin
	IsActive  bool      `json:"is_active"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// AggregateID returns the agent's id.
func (a Agent) AggregateID() string { return a.AgentID }

// SessionEnd means that the tokens of one session must be refused from now on.
type SessionEnd struct {
	AgentID   string    `json:"agent_id"`
	SessionID string    `json:"session_id"`
	Reason    string    `json:"reason"` // logout, password_changed, refresh_reused, agent_deactivated, role_changed, removed
	RevokedAt time.Time `json:"revoked_at"`
}

// AggregateID returns the session's id. With the agent's id, compaction of the topic would delete the agent's newest state.
func (s SessionEnd) AggregateID() string { return s.SessionID }
