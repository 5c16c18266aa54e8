package agent

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
)

// LoginRequest is the password grant of OAuth 2, RFC 6749 section 4.3.2.
type LoginRequest struct {
	Username string `json:"username"` // the e-mail
	Password string `json:"password"`
}

// AccessToken is the response to a login or a renewal, RFC 6749 section 5.1.
type AccessToken struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token"`
}

// Login begins a session. It fails with the same Unauthenticated fault after the same time for an unknown e-mail, a wrong
// password and an inactive agent, and with the Limited fault too_many_attempts after too many of them.
func (s *Service) Login(ctx context.Context, r LoginRequest) (AccessToken, error) {
	elapsed := clock.Stopwatch()
	email, ok := s.NormalizeEmail(r.Username)
	former := formerSpelling(r.Username)
	if !ok {
		email = former
	}
	attempt, err := s.attempt(ctx, "account", email)
	if err != nil {
		return AccessToken{}, err
	}
	a, err := s.Agents.FindByEmail(ctx, email)
	if fault.Is(err, fault.NotFound) && former != email {
		a, err = s.Agents.FindByEmail(ctx, former)
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return AccessToken{}, err
	}
	right, err := s.Passwords.Verify(ctx, a.PasswordHash, r.Password)
	if err != nil {
		return AccessToken{}, err
	}
	if !right || !a.IsActive {
		if err := s.Attempts.Change(ctx, attempt); err != nil {
			return AccessToken{}, err
		}
		pause(ctx, s.FailedLogin-elapsed())
		return AccessToken{}, invalidCredentials()
	}
	if err := s.succeed(ctx, attempt); err != nil {
		return AccessToken{}, err
	}
	session, refresh := begin(deviceOf(ctx), a.ID, s.Clock.Now())
	if err = s.rehash(ctx, a, r.Password); err == nil {
		err = s.Sessions.Create(ctx, session, a.PasswordSetAt)
	}
	if fault.Is(err, fault.NotFound) { // the account was deleted or changed meanwhile
		return AccessToken{}, invalidCredentials()
	}
	if err != nil {
		return AccessToken{}, err
	}
	return s.answer(session.ID, a, refresh)
}

func invalidCredentials() error {
	return fault.New(fault.Unauthenticated, "invalid_credentials", "Invalid credentials")
}

// rehash replaces a hash of the former system, or one with a lower cost. The password is only known at login.
func (s *Service) rehash(ctx context.Context, a Agent, password string) error {
	if !s.Passwords.Outdated(a.PasswordHash) {
		return nil
	}
	hash, err := s.Passwords.Hash(ctx, password)
	if err != nil {
		return err
	}
	_, err = s.Agents.Change(ctx, a.ID, func(current *Agent) ([]event.Event, error) {
		if current.PasswordHash == a.PasswordHash {
			current.PasswordHash = hash
		}
		return nil, nil
	})
	return err
}

func (s *Service) answer(sessionID string, a Agent, refresh refreshToken) (AccessToken, error) {
	text, err := s.Tokens.Sign(identity.Caller{AgentID: a.ID, SessionID: sessionID, Role: a.Role})
	if err != nil {
		return AccessToken{}, err
	}
	return AccessToken{AccessToken: text, TokenType: "bearer", ExpiresIn: int(s.TokenTTL / time.Second), RefreshToken: refresh.String()}, nil
}

// RefreshRequest renews a session.
type RefreshRequest struct {
	RefreshToken string `json:"refresh_token"`
}

// Refresh spends a refresh token and returns a new pair. A token that was spent within the last 30 s returns the same successor
// again, as long as the successor is unused. Any other token that was ever issued to the session ends it, because it may have
// been stolen. In all other cases it fails with the Unauthenticated fault invalid_refresh_token.
func (s *Service) Refresh(ctx context.Context, r RefreshRequest) (AccessToken, error) {
	refused := fault.New(fault.Unauthenticated, "invalid_refresh_token", "The refresh token is not valid: log in again")
	spent, ok := parseRefreshToken(r.RefreshToken)
	if !ok {
		return AccessToken{}, refused
	}
	var successor refreshToken
	session, err := s.Sessions.Change(ctx, spent.sessionID, func(session *Session) ([]event.Event, error) {
		now := s.Clock.Now()
		if !spent.familyIs(session.FamilyHash) || !session.renewable(now) || !session.Owner.IsActive {
			return nil, refused
		}
		if successor, ok = session.renew(spent, deviceOf(ctx), now); !ok {
			return session.end(endedByReuse, now), nil
		}
		return nil, nil
	})
	if fault.Is(err, fault.NotFound) || err == nil && !ok {
		return AccessToken{}, refused
	}
	if err != nil {
		return AccessToken{}, err
	}
	return s.answer(session.ID, session.Owner, successor)
}

// Admit checks that the session of a verified token has not ended, and returns the caller with its current role. It fails with
// the Unauthenticated fault session_ended.
func (s *Service) Admit(ctx context.Context, c identity.Caller) (identity.Caller, error) {
	session, err := s.Sessions.Find(ctx, c.SessionID)
	if fault.Is(err, fault.NotFound) || err == nil && (session.AgentID != c.AgentID || !session.Owner.IsActive) {
		return identity.Caller{}, sessionEnded()
	}
	if err != nil {
		return identity.Caller{}, err
	}
	c.Role = session.Owner.Role
	return c, nil
}

func sessionEnded() error {
	return fault.New(fault.Unauthenticated, "session_ended", "This session has ended: log in again")
}

// LogoutRequest ends the caller's session.
type LogoutRequest struct{}

// Logout ends the caller's session.
func (s *Service) Logout(ctx context.Context, _ LogoutRequest) (struct{}, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return struct{}{}, err
	}
	err = s.endSession(ctx, caller, caller.SessionID, endedByLogout)
	if fault.Is(err, fault.NotFound) {
		err = nil // it ended at the same moment for another reason
	}
	return struct{}{}, err
}

func (s *Service) endSession(ctx context.Context, c identity.Caller, id, reason string) error {
	_, err := s.Sessions.Change(ctx, id, func(session *Session) ([]event.Event, error) {
		if !c.MaySee(session.AgentID) {
			return nil, fault.New(fault.Forbidden, "not_your_session", "This session belongs to another agent")
		}
		return session.end(reason, s.Clock.Now()), nil
	})
	return err
}

// endSessions ends all sessions of an agent but the one with the id except; empty for none.
func (s *Service) endSessions(ctx context.Context, agentID, except, reason string, now time.Time) error {
	return s.Sessions.Remove(ctx, agentID, except, func(id string) event.Event { return ended(agentID, id, reason, now) })
}

// ListedSession is a session of the caller.
type ListedSession struct {
	Session
	Current bool // whether the request belongs to it
}

// ListSessionsRequest is the query of the caller's sessions.
type ListSessionsRequest struct{ page.Request }

// ListSessions returns a page of the caller's sessions, newest first.
func (s *Service) ListSessions(ctx context.Context, r ListSessionsRequest) (page.Of[ListedSession], error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return page.Of[ListedSession]{}, err
	}
	sessions, err := s.Sessions.List(ctx, caller.AgentID, r.Request)
	return page.Map(sessions, func(session Session) ListedSession {
		return ListedSession{Session: session, Current: session.ID == caller.SessionID}
	}), err
}

// RemoveSessionRequest names a session.
type RemoveSessionRequest struct {
	ID string `path:"id"`
}

// RemoveSession ends one of the caller's sessions; an admin may end any session.
func (s *Service) RemoveSession(ctx context.Context, r RemoveSessionRequest) (struct{}, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, s.endSession(ctx, caller, r.ID, endedByRemoval)
}
