package agent

import (
	"context"
	"strings"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
)

// maxUserAgent is how much of a User-Agent is kept: enough to tell a person which phone it is.
const maxUserAgent = 200 // characters

const (
	// MaxLife is for how long a session can be renewed after the login, MaxIdle after the last renewal.
	MaxLife = 30 * 24 * time.Hour
	MaxIdle = 14 * 24 * time.Hour
	// grace is for how long a spent refresh token gives its successor once more: a phone that lost the answer asks again.
	grace = 30 * time.Second
)

// Session is one login. Its id is the claim sid of the tokens that belong to it.
type Session struct {
	ID          string // UUIDv7
	AgentID     string
	CreatedAt   time.Time
	LastUsedAt  time.Time // when it began or was last renewed
	UserAgent   string    // then; at most 200 characters
	IP          string    // of the client then; empty when nobody knows it
	FamilyHash  []byte    // SHA-256 of what all its refresh tokens share
	RefreshHash []byte    // SHA-256 of the newest refresh token's secret
	SpentHash   []byte    // of the one before; nil until the first renewal
	Nonce       []byte    // makes the newest secret out of the one before
	EndedAt     time.Time // zero while it lasts
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

func deviceOf(ctx context.Context) Device {
	d, _ := ctx.Value(deviceKey{}).(Device)
	d.UserAgent = cut(d.UserAgent, maxUserAgent)
	return d
}

// begin makes a session and its first refresh token.
func begin(d Device, agentID string, now time.Time) (Session, refreshToken) {
	id := event.NewID()
	t := newRefreshToken(id)
	return Session{
		ID: id, AgentID: agentID, CreatedAt: now, LastUsedAt: now, UserAgent: d.UserAgent, IP: d.IP,
		FamilyHash: sum(t.family[:]), RefreshHash: sum(t.secret[:]),
	}, t
}

// renew spends a refresh token that was issued to the session and returns its successor. It is false when the session has
// to end, because a token was used twice: by its owner and by a thief, and nobody knows who is who.
func (s *Session) renew(t refreshToken, d Device, now time.Time) (refreshToken, bool) {
	switch {
	case t.secretIs(s.RefreshHash):
		s.SpentHash, s.Nonce = s.RefreshHash, newNonce()
		successor := t.successor(s.Nonce)
		s.RefreshHash = sum(successor.secret[:])
		s.LastUsedAt, s.UserAgent, s.IP = now, d.UserAgent, d.IP
		return successor, true
	case t.secretIs(s.SpentHash) && now.Sub(s.LastUsedAt) <= grace:
		return t.successor(s.Nonce), true
	default:
		return refreshToken{}, false
	}
}

// renewable reports whether the session is young and busy enough.
func (s *Session) renewable(now time.Time) bool {
	return now.Sub(s.CreatedAt) < MaxLife && now.Sub(s.LastUsedAt) < MaxIdle
}

// Why a session ended, as session.revoked tells it.
const (
	endedByLogout      = "logout"
	endedByReuse       = "refresh_reused"
	endedByRemoval     = "removed"
	endedByPassword    = "password_changed"
	endedByDemotion    = "role_changed"
	endedByDeactivated = "agent_deactivated"
)

// end ends the session.
func (s *Session) end(reason string, now time.Time) []event.Event {
	s.EndedAt = now
	return []event.Event{Ended(s.AgentID, s.ID, reason, now)}
}

// Ended is the event of a session that ended.
func Ended(agentID, sessionID, reason string, now time.Time) event.Event {
	return events.SessionRevoked.New(now, events.SessionEnd{AgentID: agentID, SessionID: sessionID, Reason: reason, RevokedAt: now})
}

// cut keeps the first n characters of a text, as UTF-8.
func cut(text string, n int) string {
	runes := []rune(strings.ToValidUTF8(text, "�"))
	return string(runes[:min(n, len(runes))])
}
