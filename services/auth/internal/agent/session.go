package agent

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/text"
)

// maxUserAgent is how much of a User-Agent is stored: enough for a person to recognize the phone.
const maxUserAgent = 200 // characters

const (
	// MaxLife is how long after the login a session can be renewed, MaxIdle how long after the last renewal.
	MaxLife = 30 * 24 * time.Hour
	MaxIdle = 14 * 24 * time.Hour
	// grace is how long a spent refresh token returns the same successor again, for a phone that did not receive the first
	// response.
	grace = 30 * time.Second
)

// Session is one login. Its id is the claim sid of the tokens that belong to it.
type Session struct {
	ID          string // UUIDv7
	AgentID     string
	CreatedAt   time.Time
	LastUsedAt  time.Time // when it began or was last renewed
	UserAgent   string    // at that time; at most 200 characters
	IP          string    // of the client at that time; empty if unknown
	FamilyHash  []byte    // SHA-256 of the part that all its refresh tokens share
	RefreshHash []byte    // SHA-256 of the newest refresh token's secret
	SpentHash   []byte    // of the one before; nil until the first renewal
	Nonce       []byte    // derives the newest secret from the one before
	EndedAt     time.Time // zero while it is active
	Owner       Agent     // the agent with AgentID as it is now; stores fill it in
}

// Device describes where a request comes from. The client can forge all of it.
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
	d.UserAgent = text.First(d.UserAgent, maxUserAgent)
	return d
}

// begin returns a new session and its first refresh token.
func begin(d Device, agentID string, now time.Time) (Session, refreshToken) {
	id := event.NewID()
	t := newRefreshToken(id)
	return Session{
		ID: id, AgentID: agentID, CreatedAt: now, LastUsedAt: now, UserAgent: d.UserAgent, IP: d.IP,
		FamilyHash: sum(t.family[:]), RefreshHash: sum(t.secret[:]),
	}, t
}

// renew spends a refresh token that was issued to the session and returns its successor. ok is false when the session must end:
// a token was used twice, by its owner and by a thief, who cannot be distinguished.
func (s *Session) renew(t refreshToken, d Device, now time.Time) (successor refreshToken, ok bool) {
	switch {
	case t.secretIs(s.RefreshHash):
		s.SpentHash, s.Nonce = s.RefreshHash, newNonce()
		successor = t.successor(s.Nonce)
		s.RefreshHash = sum(successor.secret[:])
		s.LastUsedAt, s.UserAgent, s.IP = now, d.UserAgent, d.IP
		return successor, true
	case t.secretIs(s.SpentHash) && now.Sub(s.LastUsedAt) <= grace:
		return t.successor(s.Nonce), true
	default:
		return refreshToken{}, false
	}
}

// renewable reports whether the session is within MaxLife and MaxIdle.
func (s *Session) renewable(now time.Time) bool {
	return now.Sub(s.CreatedAt) < MaxLife && now.Sub(s.LastUsedAt) < MaxIdle
}

// The reasons in session.revoked.
const (
	endedByLogout       = "logout"
	endedByReuse        = "refresh_reused"
	endedByRemoval      = "removed"
	endedByPassword     = "password_changed"
	endedByDemotion     = "role_changed"
	endedByDeactivation = "agent_deactivated"
)

// end ends the session.
func (s *Session) end(reason string, now time.Time) []event.Event {
	s.EndedAt = now
	return []event.Event{ended(s.AgentID, s.ID, reason, now)}
}

func ended(agentID, sessionID, reason string, now time.Time) event.Event {
	return events.SessionRevoked.New(now, events.SessionEnd{AgentID: agentID, SessionID: sessionID, Reason: reason, RevokedAt: now})
}

// SessionNotFound is the fault of a session that does not exist, or has ended.
func SessionNotFound() error {
	return fault.New(fault.NotFound, "session_not_found", "Session not found")
}
