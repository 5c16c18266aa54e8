package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Agents keeps agents.
type Agents interface {
	// Create keeps the agent that register makes, with its events. first is true for exactly one agent of the platform. An
	// e-mail that is taken is the Conflict fault email_taken.
	Create(ctx context.Context, register func(first bool) (Agent, []contract.Event)) (Agent, error)
	// Find and FindByEmail return the NotFound fault agent_not_found and a zero Agent when there is none.
	Find(ctx context.Context, id string) (Agent, error)
	FindByEmail(ctx context.Context, email string) (Agent, error)
	// Change lets fn change the agent under a lock and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*Agent) ([]contract.Event, error)) (Agent, error)
}

// Sessions keeps logins.
type Sessions interface {
	Create(ctx context.Context, s Session) error
}

// Passwords hashes passwords. When too many wait for it, both are the Unavailable fault busy.
type Passwords interface {
	Hash(ctx context.Context, password string) (string, error)
	// Verify compares a password with its hash. An empty hash is nobody's: it is false after the same time.
	Verify(ctx context.Context, hash, password string) (bool, error)
}

// Tokens signs access tokens.
type Tokens interface {
	Sign(c identity.Caller, ttl time.Duration) (string, error)
}

// Service is what people can do with their account. Every field is needed; it is safe for concurrent use.
type Service struct {
	Agents    Agents
	Sessions  Sessions
	Passwords Passwords
	Tokens    Tokens
	Clock     clock.Clock
	Open      bool          // whether strangers may register
	TokenTTL  time.Duration // lifetime of an access token
}

// RegisterRequest asks for an account.
type RegisterRequest struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	FullName string `json:"full_name"`
	Name     string `json:"name"` // FullName in the words of the older apps
}

func (r RegisterRequest) check() error {
	wrong := slices.Concat(checkEmail(r.Email), checkPassword("password", r.Password))
	if r.FullName == "" && r.Name == "" {
		wrong = append(wrong, fault.BodyField("full_name", "missing", "Field required"))
	} else {
		wrong = append(wrong, checkFullName(r.fullName())...)
	}
	if len(wrong) > 0 {
		return fault.Fields(wrong...)
	}
	return nil
}

// Register makes an account. The first one of the platform is its admin.
func (s *Service) Register(ctx context.Context, r RegisterRequest) (Agent, error) {
	if !s.Open {
		return Agent{}, fault.New(fault.Forbidden, "registration_closed", "Registration is closed: ask your admin for an account")
	}
	if err := r.check(); err != nil {
		return Agent{}, err
	}
	hash, err := s.Passwords.Hash(ctx, r.Password)
	if err != nil {
		return Agent{}, err
	}
	return s.Agents.Create(ctx, func(first bool) (Agent, []contract.Event) {
		return register(r, hash, first, s.Clock.Now())
	})
}

// LoginRequest is the password form of OAuth 2, RFC 6749 section 4.3.2.
type LoginRequest struct {
	Username string `json:"username"` // the e-mail
	Password string `json:"password"`
}

// AccessToken is the answer to a login, RFC 6749 section 5.1.
type AccessToken struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"` // seconds
}

// Login begins a session. An unknown e-mail, a wrong password and an inactive agent are the same Unauthenticated fault
// after the same time.
func (s *Service) Login(ctx context.Context, r LoginRequest) (AccessToken, error) {
	a, err := s.Agents.FindByEmail(ctx, normalize(r.Username))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return AccessToken{}, err
	}
	right, err := s.Passwords.Verify(ctx, a.PasswordHash, r.Password)
	if err != nil {
		return AccessToken{}, err
	}
	if !right || !a.IsActive {
		return AccessToken{}, fault.New(fault.Unauthenticated, "invalid_credentials", "Invalid credentials")
	}
	session := begin(ctx, a.ID, s.Clock.Now())
	if err := s.Sessions.Create(ctx, session); err != nil {
		return AccessToken{}, err
	}
	text, err := s.Tokens.Sign(identity.Caller{AgentID: a.ID, SessionID: session.ID, Role: a.Role}, s.TokenTTL)
	if err != nil {
		return AccessToken{}, err
	}
	return AccessToken{AccessToken: text, TokenType: "bearer", ExpiresIn: int(s.TokenTTL.Seconds())}, nil
}

// MeRequest asks for the caller's own account.
type MeRequest struct{}

// Me is the caller's own account.
func (s *Service) Me(ctx context.Context, _ MeRequest) (Agent, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Agent{}, err
	}
	a, err := s.Agents.Find(ctx, caller.AgentID)
	return a, ended(a, err)
}

// UpdateRequest changes the caller's own account.
type UpdateRequest struct {
	FullName string `json:"full_name"`
}

// Update changes the caller's own account.
func (s *Service) Update(ctx context.Context, r UpdateRequest) (Agent, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Agent{}, err
	}
	fullName := strings.TrimSpace(r.FullName)
	if wrong := checkFullName(fullName); wrong != nil {
		return Agent{}, fault.Fields(wrong...)
	}
	a, err := s.Agents.Change(ctx, caller.AgentID, func(a *Agent) ([]contract.Event, error) {
		if err := ended(*a, nil); err != nil {
			return nil, err
		}
		return a.rename(fullName, s.Clock.Now()), nil
	})
	return a, ended(a, err)
}

// ended refuses a token that outlived its agent's account: the agent is gone or inactive.
func ended(a Agent, err error) error {
	if fault.Is(err, fault.NotFound) || err == nil && !a.IsActive {
		return fault.New(fault.Unauthenticated, "account_ended", "This account can no longer be used")
	}
	return err
}
