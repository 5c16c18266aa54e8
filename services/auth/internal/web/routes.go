// Package web is the HTTP API of auth.
package web

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/key"
)

// Routes registers all operations of the API. The service does not start when it differs from the contract in api/auth.yaml.
func Routes(r *rpc.Router, agents *agent.Service, keys *key.Ring) {
	created, noContent := rpc.Status(http.StatusCreated), rpc.Status(http.StatusNoContent)
	view, secret := rpc.View(viewAgent), cached[agent.AccessToken]("no-store")

	rpc.Handle(r, "POST /auth/register", "auth.register", agents.Register, view, created)
	rpc.Handle(r, "GET /auth/registration", "auth.registration", agents.Registration, rpc.View(viewRegistration))
	rpc.Handle(r, "POST /auth/login", "auth.login", agents.Login, secret)
	rpc.Handle(r, "POST /auth/refresh", "auth.refresh", agents.Refresh, secret)
	rpc.Handle(r, "POST /auth/logout", "auth.logout", agents.Logout, noContent)
	// The version is no ETag here: after another login the same path is another agent's account.
	rpc.Handle(r, "GET /auth/me", "auth.me", agents.Me, view)
	rpc.Handle(r, "PATCH /auth/me", "auth.update", agents.Update, view)
	rpc.Handle(r, "POST /auth/me/password", "auth.change_password", agents.ChangePassword, noContent)
	rpc.Handle(r, "GET /auth/sessions", "auth.list_sessions", agents.ListSessions, rpc.View(viewSession))
	rpc.Handle(r, "DELETE /auth/sessions/{id}", "auth.remove_session", agents.RemoveSession, noContent)

	rpc.Handle(r, "GET /agents", "auth.list_agents", agents.List, view)
	rpc.Handle(r, "POST /agents", "auth.create_agent", agents.Create, rpc.View(viewCreated), created, rpc.Redacted(withoutPassword))
	rpc.Handle(r, "GET /agents/{id}", "auth.get_agent", agents.Get, view, rpc.Version(func(a agent.Agent) int64 { return a.Version }))
	rpc.Handle(r, "PATCH /agents/{id}", "auth.update_agent", agents.UpdateAgent, view)
	rpc.Handle(r, "DELETE /agents/{id}", "auth.delete_agent", agents.Delete, rpc.Respond(erased))

	rpc.Handle(r, "GET "+access.RevocationsPath, "auth.list_revocations", agents.ListRevocations, signedRevocations(keys))
	rpc.Handle(r, "GET /.well-known/jwks.json", "auth.jwks", publicKeys(keys), cached[token.JWKS]("public, max-age=60"))
}

// publicKeys returns the keys that verify tokens, the oldest first: their ids are UUIDs of version 7.
func publicKeys(keys *key.Ring) func(context.Context, struct{}) (token.JWKS, error) {
	return func(context.Context, struct{}) (set token.JWKS, err error) {
		published := keys.Published()
		for _, id := range slices.Sorted(maps.Keys(published)) {
			set.Keys = append(set.Keys, token.PublicJWK(id, published[id]))
		}
		return set, nil
	}
}
