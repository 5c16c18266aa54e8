// Package identity says who is calling. It is plain data that travels in a context: domain packages may import it. How a
// caller proves who it is belongs to the package token below.
package identity

import (
	"context"

	"github.com/convoflow/convoflow/libs/fault"
)

// Role is what an agent may see.
type Role string

// The roles: an agent sees its own data, an admin the whole team's.
const (
	Agent Role = "agent"
	Admin Role = "admin"
)

// Caller is the agent behind a request, as its verified token says.
type Caller struct {
	AgentID   string // UUID
	SessionID string // UUID of the login that the token belongs to
	TokenID   string // jti
	Role      Role
	Token     string // the token itself, to ask another service in the caller's name; never logged
}

// IsAdmin reports whether the caller sees the whole team.
func (c Caller) IsAdmin() bool { return c.Role == Admin }

// MaySee reports whether something that belongs to agentID is the caller's to see and change.
func (c Caller) MaySee(agentID string) bool { return c.IsAdmin() || c.AgentID == agentID }

// Scope is the agent whose objects a list shows the caller; empty for the whole team.
func (c Caller) Scope() string {
	if c.IsAdmin() {
		return ""
	}
	return c.AgentID
}

type key struct{}

// With returns a context that carries the caller.
func With(ctx context.Context, c Caller) context.Context { return context.WithValue(ctx, key{}, c) }

// From returns the caller. It is an Unauthenticated fault when there is none, which only a route that is open to anyone
// can meet.
func From(ctx context.Context) (Caller, error) {
	c, ok := ctx.Value(key{}).(Caller)
	if !ok {
		return Caller{}, fault.New(fault.Unauthenticated, "not_authenticated", "Send a bearer token: log in at POST /auth/login")
	}
	return c, nil
}
