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
func Routes(r *rpc.Router, agents *agent.Service, keys *key.Ring) (http.Handler, error) {
	rpc.Handle(r, "POST /auth/register", "auth.register", agents.Register, rpc.View(view), rpc.Status(http.StatusCreated))
	rpc.Handle(r, "POST /auth/login", "auth.login", agents.Login, cached[agent.AccessToken]("no-store"))
	rpc.Handle(r, "GET /auth/me", "auth.me", agents.Me, rpc.View(view))
	rpc.Handle(r, "PATCH /auth/me", "auth.update", agents.Update, rpc.View(view))
	rpc.Handle(r, "GET /.well-known/jwks.json", "auth.jwks", keys.JWKS, cached[token.JWKS]("public, max-age=60"))

	handler, err := r.Handler()
	if err != nil {
		return nil, err
	}
	return withDevice(handler), nil
}
