package agent

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// LoginRequest is the password form of OAuth 2, RFC 6749 section 4.3.2.
type LoginRequest struct {
	Username string `json:"username"` // the e-mail
	Password string `json:"password"`
}

// AccessToken is the answer to a login or a renewal, RFC 6749 section 5.1.
type AccessToken struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token"`
}

// Login begins a session. An unknown e-mail, a wrong password and an inactive agent are the same Unauthenticated fault
// after the same time; after too many of them it is the Limited fault too_many_attempts.
func (s *Service) Login(ctx context.Context, r LoginRequest) (AccessToken, error) {
	began := s.Clock.Now()
	attempt, err := s.attempt(ctx, "account", normalize(r.Username))
	if err != nil {
		return AccessToken{}, err
	}
	a, err := s.Agents.FindByEmail(ctx, normalize(r.Username))
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
		pause(ctx, s.FailedLogin-s.Clock.Now().Sub(began))
		return AccessToken{}, invalidCredentials()
	}
	if err := s.forgive(ctx, attempt); err != nil {
		return AccessToken{}, err
	}
	if err := s.rehash(ctx, a, r.Password); err != nil {
		return AccessToken{}, err
	}
	session, refresh := begin(deviceOf(ctx), a.ID, s.Clock.Now())
	err = s.Sessions.Create(ctx, session, a.PasswordSetAt)
	if fault.Is(err, fault.NotFound) {
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

// rehash replaces a hash of the former system, or one that was cheaper to make, now that the password is known.
func (s *Service) rehash(ctx context.Context, a Agent, password string) error {
	if !s.Passwords.Outdated(a.PasswordHash) {
		return nil
	}
	hash, err := s.Passwords.Hash(ctx, password)
	if err != nil {
		return err
	}
	_, err = s.Agents.Change(ctx, a.ID, func(now *Agent) ([]event.Event, error) {
		if now.PasswordHash == a.PasswordHash {
			now.PasswordHash = hash
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

// RefreshRequest asks for new tokens.
type RefreshRequest struct {
	RefreshToken string `json:"refresh_token"`
}

// Refresh spends a refresh token. Within 30 s a spent one gives its successor again, as long as that was not used itself.
// Anything else that was issued to the session once ends it. A token that gives nothing is the Unauthenticated fault
// invalid_refresh_token.
func (s *Service) Refresh(ctx context.Context, r RefreshRequest) (AccessToken, error) {
	refused := fault.New(fault.Unauthenticated, "invalid_refresh_token", "The refresh token is not valid: log in again")
	spent, ok := parseRefreshToken(r.RefreshToken)
	if !ok {
		return AccessToken{}, refused
	}
	var owner Agent
	var successor refreshToken
	err := s.Sessions.Change(ctx, spent.sessionID, func(session *Session, a Agent) ([]event.Event, error) {
		now := s.Clock.Now()
		if !spent.familyIs(session.FamilyHash) || !session.renewable(now) || !a.IsActive {
			return nil, refused
		}
		owner = a
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
	return s.answer(spent.sessionID, owner, successor)
}

// Admit completes the caller of a token by what is true now: its role, and that its session has not ended. A session that
// has ended is the Unauthenticated fault session_ended.
func (s *Service) Admit(ctx context.Context, c identity.Caller) (identity.Caller, error) {
	session, a, err := s.Sessions.Find(ctx, c.SessionID)
	if fault.Is(err, fault.NotFound) || err == nil && (session.AgentID != c.AgentID || !a.IsActive) {
		return identity.Caller{}, fault.New(fault.Unauthenticated, "session_ended", "This session has ended: log in again")
	}
	if err != nil {
		return identity.Caller{}, err
	}
	c.Role = a.Role
	return c, nil
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
		err = nil // it has just ended in another way
	}
	return struct{}{}, err
}

func (s *Service) endSession(ctx context.Context, c identity.Caller, id, reason string) error {
	return s.Sessions.Change(ctx, id, func(session *Session, _ Agent) ([]event.Event, error) {
		if !c.MaySee(session.AgentID) {
			return nil, fault.New(fault.Forbidden, "not_your_session", "This session is somebody else's")
		}
		return session.end(reason, s.Clock.Now()), nil
	})
}

// SessionFilter chooses a page of an agent's sessions, newest first.
type SessionFilter struct {
	AgentID string
	Limit   int
	Cursor  string // from SessionPage.Next
	Skip    int
}

// SessionPage is a page of sessions.
type SessionPage struct {
	Items   []Session
	Next    string // cursor of the next page, empty on the last
	Current string // id of the session that asks
}

// ListSessionsRequest asks for the caller's sessions.
type ListSessionsRequest struct {
	Limit  int    `query:"limit"`
	Cursor string `query:"cursor"`
	Skip   int    `query:"skip"`
}

const defaultLimit = 50 // as the HTTP contract says

// ListSessions is where the caller is logged in.
func (s *Service) ListSessions(ctx context.Context, r ListSessionsRequest) (SessionPage, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return SessionPage{}, err
	}
	page, err := s.Sessions.List(ctx, SessionFilter{AgentID: caller.AgentID, Limit: limit(r.Limit), Cursor: r.Cursor, Skip: r.Skip})
	page.Current = caller.SessionID
	return page, err
}

func limit(sent int) int {
	if sent == 0 {
		return defaultLimit
	}
	return sent
}

// RemoveSessionRequest names a session.
type RemoveSessionRequest struct {
	ID string `path:"id"`
}

// RemoveSession ends one of the caller's sessions; an admin may end anybody's.
func (s *Service) RemoveSession(ctx context.Context, r RemoveSessionRequest) (struct{}, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, s.endSession(ctx, caller, r.ID, endedByRemoval)
}
