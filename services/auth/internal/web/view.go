package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// agentView is the schema Agent of the contract.
type agentView struct {
	ID        string        `json:"id"`
	Email     string        `json:"email"`
	FullName  string        `json:"full_name"`
	Name      string        `json:"name"` // FullName in the words of the older apps
	Role      identity.Role `json:"role"`
	IsActive  bool          `json:"is_active"`
	CreatedAt time.Time     `json:"created_at"`
}

func view(a agent.Agent) any {
	return agentView{ID: a.ID, Email: a.Email, FullName: a.FullName, Name: a.FullName, Role: a.Role, IsActive: a.IsActive, CreatedAt: a.CreatedAt}
}

// cached answers with JSON and its own Cache-Control.
func cached[Res any](control string) rpc.Option {
	return rpc.Respond(func(w http.ResponseWriter, _ *http.Request, answer Res) error {
		raw, err := json.Marshal(answer)
		if err != nil {
			return fmt.Errorf("marshal the answer: %w", err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", control)
		_, _ = w.Write(raw) // the client is gone when this does not work
		return nil
	})
}
