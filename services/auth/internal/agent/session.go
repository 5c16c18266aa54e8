package agent

import (
	"context"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/contract"
)

// maxUserAgent is how much of a User-Agent is kept: enough to tell a person which phone it is.
const maxUserAgent = 200 // characters

// Session is one login. Its id is the claim sid of the tokens that belong to it.
type Session struct {
	ID         string // UUIDv7
	AgentID    string
	CreatedAt  time.Time
	LastUsedAt time.Time
	UserAgent  string // at most 200 characters
	IP         string // of the client; empty when nobody knows it
}

// Device is what a request tells about where it comes from. None of it is proven.
type Device struct {
	UserAgent string
	IP        string
}

type deviceKey struct{}

// WithDevice returns a context that carries the device of the request.
func WithDevice(ctx context.Context, d Device) context.Context {
	return context.WithValue(ctx, deviceKey{}, d)
}

func begin(ctx context.Context, agentID string, now time.Time) Session {
	d, _ := ctx.Value(deviceKey{}).(Device)
	return Session{ID: contract.NewID(), AgentID: agentID, CreatedAt: now, LastUsedAt: now, UserAgent: cut(d.UserAgent, maxUserAgent), IP: d.IP}
}

// cut keeps the first n characters of a text, as UTF-8.
func cut(text string, n int) string {
	runes := []rune(strings.ToValidUTF8(text, "�"))
	return string(runes[:min(n, len(runes))])
}
