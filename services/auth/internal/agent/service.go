package agent

import (
	"context"
	"slices"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Agents keeps agents. One that does not exist is the NotFound fault agent_not_found with a zero Agent; an e-mail that
// another one has is the Conflict fault email_taken.
type Agents interface {
	// Create keeps the agent that fn makes, with its events. first is true for exactly one agent of the platform.
	Create(ctx context.Context, fn func(first bool) (Agent, []event.Event)) (Agent, error)
	Find(ctx context.Context, id string) (Agent, error)
	FindByEmail(ctx context.Context, email string) (Agent, error)
	List(ctx context.Context, f Filter) (Page, error)
	// Change lets fn change the agent under a lock and saves it with the events that fn returns. The last active admin
	// cannot cease to be one: that is the Conflict fault last_admin.
	Change(ctx context.Context, id string, fn func(*Agent) ([]event.Event, error)) (Agent, error)
}

// Sessions keeps sessions. One that does not exist is the NotFound fault session_not_found.
type Sessions interface {
	// Create keeps a session that a password opened, unless the agent has been deactivated or its password changed since the
	// agent was read: that is the NotFound fault session_not_found.
	Create(ctx context.Context, s Session, passwordSetAt time.Time) error
	// Find returns a session and the agent whose it is.
	Find(ctx context.Context, id string) (Session, Agent, error)
	List(ctx context.Context, f SessionFilter) (SessionPage, error)
	// Change lets fn change the session under a lock on it and its agent. It saves the session, or removes it when fn has
	// ended it, with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*Session, Agent) ([]event.Event, error)) error
	// Remove ends all sessions of an agent but the one with the id keep, each with its event session.revoked.
	Remove(ctx context.Context, agentID, keep, reason string, now time.Time) error
}

// Attempts counts wrong passwords by key. All replicas share them.
type Attempts interface {
	// Create begins an attempt. Either it has to Wait and nothing has happened, or it has begun, and for the keys that have a
	// delay it is Counted at once.
	Create(ctx context.Context, a Attempt) (Attempt, error)
	// Change counts an attempt whose password was wrong.
	Change(ctx context.Context, a Attempt) error
	// Remove forgets the wrong passwords of the account, and of the address what this attempt has added.
	Remove(ctx context.Context, a Attempt) error
}

// Passwords hashes passwords. When too many wait for it, Hash and Verify are the Unavailable fault busy.
type Passwords interface {
	Hash(ctx context.Context, password string) (string, error)
	// Verify compares a password with its hash. An empty hash is nobody's: it is false after the same time.
	Verify(ctx context.Context, hash, password string) (bool, error)
	// Outdated reports whether a hash should be made anew, at the next occasion that the password is known.
	Outdated(hash string) bool
	// Common reports whether a password is one of those that everybody tries first.
	Common(password string) bool
}

// Tokens signs access tokens.
type Tokens interface {
	Sign(c identity.Caller) (string, error)
}

// Tx runs fn in a transaction that the stores called with its context share.
type Tx interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
}

// Service is what people can do with their account and admins with everybody's. Every field is needed; it is safe for
// concurrent use.
type Service struct {
	Agents        Agents
	Sessions      Sessions
	Attempts      Attempts
	Passwords     Passwords
	Tokens        Tokens
	Tx            Tx
	Clock         clock.Clock
	Open          bool          // whether strangers may register
	TokenTTL      time.Duration // lifetime of the access tokens that Tokens signs
	AttemptSecret []byte        // makes keys of attempts that nobody else can read
	FailedLogin   time.Duration // how long a failed login takes at least, so that its time tells nothing about the account
}

func fields(wrong ...[]fault.Field) error {
	if all := slices.Concat(wrong...); len(all) > 0 {
		return fault.Fields(all...)
	}
	return nil
}

func (s *Service) checkPassword(name, text string) []fault.Field {
	if wrong := checkLength(name, text, minPassword, maxPassword); wrong != nil {
		return wrong
	}
	if s.Passwords.Common(text) {
		return []fault.Field{fault.BodyField(name, "password_common", "This password is one of those that are guessed first: choose another one")}
	}
	return nil
}
