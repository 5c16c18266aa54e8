package events

import (
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// What auth tells about agents.
var (
	AgentRegistered  = event.Type[Agent]{Name: "agent.registered", Topic: AgentsTopic}
	AgentUpdated     = event.Type[Agent]{Name: "agent.updated", Topic: AgentsTopic}
	AgentDeactivated = event.Type[Agent]{Name: "agent.deactivated", Topic: AgentsTopic}
	SessionRevoked   = event.Type[SessionEnd]{Name: "session.revoked", Topic: AgentsTopic}
)

// Agent is a sales rep, a user of the API.
type Agent struct {
	AgentID   string    `json:"agent_id"`
	Version   int64     `json:"version"` // grows by one with each change
	Email     string    `json:"email"`
	FullName  string    `json:"full_name"`
	Role      string    `json:"role"` // agent or admin
	IsActive  bool      `json:"is_active"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// AggregateID is the agent's id.
func (a Agent) AggregateID() string { return a.AgentID }

// SessionEnd says that the tokens of one session are to be refused from now on.
type SessionEnd struct {
	AgentID   string    `json:"agent_id"`
	SessionID string    `json:"session_id"`
	Reason    string    `json:"reason"` // logout, password_changed, refresh_reused, agent_deactivated, role_changed, removed
	RevokedAt time.Time `json:"revoked_at"`
}

// AggregateID is the session's id. With the agent's, compaction of the topic would drop the agent's newest state.
func (s SessionEnd) AggregateID() string { return s.SessionID }
