// Package identity is the caller of a request: plain data that is passed in the context, so that domain packages may import it.
// It refuses to authenticate; package token does that.
package identity

import (
	"context"

	"github.com/convoflow/convoflow/libs/fault"
)

// Role decides which data an agent may access.
type Role string

// The roles: an agent can access its own data, an admin that of the whole team.
const (
	Agent Role = "agent"
	Admin Role = "admin"
)

// Caller is the agent that sent a request, according to its verified token.
type Caller struct {
	AgentID   string // UUID
	SessionID string // UUID of the login that the token belongs to
	TokenID   string // jti
	Role      Role
	Token     string // the token itself, for requests to other services on the caller's behalf; never logged
}

// IsAdmin reports whether the caller can access the data of the whole team.
func (c Caller) IsAdmin() bool { return c.Role == Admin }

// MaySee reports whether the caller may read and change an object that belongs to agentID.
func (c Caller) MaySee(agentID string) bool { return c.IsAdmin() || c.AgentID == agentID }

// Scope returns the id of the agent whose objects the caller may list, or "" for those of the whole team.
func (c Caller) Scope() string {
	if c.IsAdmin() {
		return ""
	}
	return c.AgentID
}

type key struct{}

// With returns a context with the caller.
func With(ctx context.Context, c Caller) context.Context { return context.WithValue(ctx, key{}, c) }

// From returns the caller in ctx. It fails with an Unauthenticated fault if there is none, as on a route that is open to anyone.
func From(ctx context.Context) (Caller, error) {
	c, ok := ctx.Value(key{}).(Caller)
	if !ok {
		return Caller{}, fault.New(fault.Unauthenticated, "not_authenticated", "Send a bearer token: log in at POST /auth/login")
	}
	return c, nil
}

// Guard returns fn with a check before it: whether the caller of ctx may see and change the object, which check decides.
func Guard[T, R any](ctx context.Context, check func(*T, Caller) error, fn func(*T) (R, error)) func(*T) (R, error) {
	return func(object *T) (result R, err error) {
		caller, err := From(ctx)
		if err == nil {
			err = check(object, caller)
		}
		if err != nil {
			return result, err
		}
		return fn(object)
	}
}
