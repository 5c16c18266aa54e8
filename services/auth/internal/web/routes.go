// Package web is the HTTP API of auth.
package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/key"
)

// Routes is every operation of the service.
func Routes(r *rpc.Router, keeper rpc.Keeper, agents *agent.Service, keys *key.Ring) (http.Handler, error) {
	created, gone := rpc.Status(http.StatusCreated), rpc.Status(http.StatusNoContent)
	secret := cached[agent.AccessToken]("no-store")

	rpc.Handle(r, "POST /auth/register", "auth.register", agents.Register, rpc.View(view), created)
	rpc.Handle(r, "POST /auth/login", "auth.login", agents.Login, secret)
	rpc.Handle(r, "POST /auth/refresh", "auth.refresh", agents.Refresh, secret)
	rpc.Handle(r, "POST /auth/logout", "auth.logout", agents.Logout, gone)
	rpc.Handle(r, "GET /auth/me", "auth.me", agents.Me, rpc.View(view))
	rpc.Handle(r, "PATCH /auth/me", "auth.update", agents.Update, rpc.View(view))
	rpc.Handle(r, "POST /auth/me/password", "auth.change_password", agents.ChangePassword, gone)
	rpc.Handle(r, "GET /auth/sessions", "auth.list_sessions", agents.ListSessions, rpc.View(sessionList))
	rpc.Handle(r, "DELETE /auth/sessions/{id}", "auth.remove_session", agents.RemoveSession, gone)

	rpc.Handle(r, "GET /agents", "auth.list_agents", agents.List, rpc.View(agentList))
	rpc.Handle(r, "POST /agents", "auth.create_agent", agents.Create, rpc.View(createdView), created, rpc.Idempotent(discreet{keeper}, "auth.create_agent"))
	rpc.Handle(r, "GET /agents/{id}", "auth.get_agent", agents.Get, rpc.View(view))
	rpc.Handle(r, "PATCH /agents/{id}", "auth.update_agent", agents.UpdateAgent, rpc.View(view))

	rpc.Handle(r, "GET /.well-known/jwks.json", "auth.jwks", keys.JWKS, cached[token.JWKS]("public, max-age=60"))

	handler, err := r.Handler()
	if err != nil {
		return nil, err
	}
	return withDevice(handler), nil
}
