package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// agentView is the schema Agent of the contract.
type agentView struct {
	ID        string        `json:"id"`
	Email     string        `json:"email"`
	FullName  string        `json:"full_name"`
	Name      string        `json:"name"` // the name of FullName in older apps
	Role      identity.Role `json:"role"`
	IsActive  bool          `json:"is_active"`
	CreatedAt time.Time     `json:"created_at"`
}

// registration is the schema Registration of the contract.
type registration struct {
	Registration string `json:"registration"`
	FirstRun     bool   `json:"first_run"`
}

func viewRegistration(r agent.Registration) any {
	if !r.Open {
		return registration{"closed", r.FirstRun}
	}
	return registration{"open", r.FirstRun}
}

func viewAgent(a agent.Agent) any { return agentOf(a) }

func agentOf(a agent.Agent) agentView {
	return agentView{ID: a.ID, Email: a.Email, FullName: a.FullName, Name: a.FullName, Role: a.Role, IsActive: a.IsActive, CreatedAt: a.CreatedAt}
}

// createdAgent is the schema CreatedAgent of the contract.
type createdAgent struct {
	agentView
	Password string `json:"password,omitempty"`
}

func viewCreated(c agent.Created) any { return createdAgent{agentOf(c.Agent), c.Password} }

// withoutPassword is the response that is stored for repeated requests: a generated password is shown once and stored nowhere.
func withoutPassword(c createdAgent) any { return c.agentView }

// session is the schema Session of the contract.
type session struct {
	ID         string    `json:"id"`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at"`
	UserAgent  string    `json:"user_agent"`
	IP         string    `json:"ip"`
	Current    bool      `json:"current"`
}

func viewSession(s agent.ListedSession) any {
	return session{ID: s.ID, CreatedAt: s.CreatedAt, LastUsedAt: s.LastUsedAt, UserAgent: s.UserAgent, IP: s.IP, Current: s.Current}
}

// cached responds with JSON and its own Cache-Control.
func cached[Res any](control string) rpc.Option {
	return rpc.Respond(func(w http.ResponseWriter, _ *http.Request, answer Res) error {
		raw, err := json.Marshal(answer)
		if err != nil {
			return fmt.Errorf("marshal the answer: %w", err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", control)
		_, _ = w.Write(raw) // fails only if the client has disconnected
		return nil
	})
}

// erased answers 204 with the id of the erasure that a deletion started.
func erased(w http.ResponseWriter, _ *http.Request, e events.Erasure) error {
	w.Header().Set("Erasure-Id", e.ErasureID)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
