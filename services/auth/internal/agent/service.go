package agent

import (
	"context"
	"slices"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
)

// Agents stores agents. One that does not exist or was deleted is the fault NotFound, with a zero Agent; an e-mail that
// another account has is the fault EmailTaken.
type Agents interface {
	// Create stores the agent that fn returns, with its events. first is true for exactly one agent of the platform.
	Create(ctx context.Context, fn func(first bool) (Agent, []event.Event)) (Agent, error)
	// EverCreated reports whether an agent was ever created, also if it was deleted since.
	EverCreated(ctx context.Context) (bool, error)
	Find(ctx context.Context, id string) (Agent, error)
	FindByEmail(ctx context.Context, email string) (Agent, error)
	List(ctx context.Context, r ListRequest) (page.Of[Agent], error)
	// Change lets fn change the agent under a lock, and saves it with the events that fn returns. It fails with LastAdmin if no
	// active admin would be left.
	Change(ctx context.Context, id string, fn func(*Agent) ([]event.Event, error)) (Agent, error)
}

// Sessions stores sessions. One that does not exist is the fault SessionNotFound.
type Sessions interface {
	// Create stores a session that a password opened. It fails with SessionNotFound if the agent has been deactivated since it
	// was read, or has a newer password than that of passwordSetAt.
	Create(ctx context.Context, s Session, passwordSetAt time.Time) error
	Find(ctx context.Context, id string) (Session, error)
	List(ctx context.Context, agentID string, r page.Request) (page.Of[Session], error)
	// Change lets fn change the session under a lock on its agent and on it, and saves it with the events that fn returns. A
	// session that fn has ended is deleted.
	Change(ctx context.Context, id string, fn func(*Session) ([]event.Event, error)) (Session, error)
	// Remove deletes all sessions of an agent but the one with the id except, with the event that fn returns for each id.
	Remove(ctx context.Context, agentID, except string, fn func(id string) event.Event) error
}

// Attempts counts wrong passwords by key. All replicas share the counts.
type Attempts interface {
	// Create begins an attempt. It sets KnownAt. If one of the Limits has to wait, it sets Wait and counts nothing. Otherwise the
	// attempt has begun, and keys that have a delay have counted it as wrong in advance: they are in Counted.
	Create(ctx context.Context, a Attempt) (Attempt, error)
	// Change counts an attempt whose password was wrong.
	Change(ctx context.Context, a Attempt) error
	// Remove records a correct password: it deletes the counts of the account, subtracts what this attempt added to the count of
	// the address, and remembers the network as known.
	Remove(ctx context.Context, a Attempt) error
}

// Registrations counts registrations by key. All replicas share the counts.
type Registrations interface {
	// Create counts a registration, unless limit of them were counted within an hour: then it returns how long to wait.
	Create(ctx context.Context, key []byte, at time.Time, limit int) (wait time.Duration, err error)
}

// Passwords hashes passwords. Hash and Verify fail with the Unavailable fault busy if too many requests are waiting.
type Passwords interface {
	Hash(ctx context.Context, password string) (string, error)
	// Verify compares a password with its hash. The empty hash means an account that does not exist: the result is false, after
	// the same time.
	Verify(ctx context.Context, hash, password string) (bool, error)
	// Outdated reports whether a hash should be replaced at the next login.
	Outdated(hash string) bool
	// Common reports whether a password is one of the most common ones.
	Common(password string) bool
}

// Tokens signs access tokens.
type Tokens interface {
	Sign(c identity.Caller) (string, error)
}

// Tx runs fn in a transaction. Stores that are called with the context of fn take part in it.
type Tx interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
}

// Service implements the operations of agents on their own account, and of admins on all accounts. Every field is required. It
// is safe for concurrent use.
type Service struct {
	Agents        Agents
	Sessions      Sessions
	Erasures      Erasures
	Revocations   Revocations
	Attempts      Attempts
	Registrations Registrations
	Passwords     Passwords
	Tokens        Tokens
	Tx            Tx
	Clock         clock.Clock
	// NormalizeEmail returns the one spelling of an e-mail address. ok is false for what is not an address.
	NormalizeEmail       func(text string) (email string, ok bool)
	RegistrationsPerHour int           // from one address; 0 for no limit
	Open                 bool          // whether anyone may register
	TokenTTL             time.Duration // lifetime of the access tokens that Tokens signs
	AttemptSecret        []byte        // the HMAC key of the keys of attempts
	FailedLogin          time.Duration // the minimum duration of a failed login, so that its timing reveals nothing about the account
}

func fields(wrong ...[]fault.Field) error {
	if all := slices.Concat(wrong...); len(all) > 0 {
		return fault.Fields(all...)
	}
	return nil
}

// checkPassword checks a new password of the account with the address, which is empty while it is unknown.
func (s *Service) checkPassword(name, text, email string) []fault.Field {
	if wrong := checkLength(name, text, minPassword, maxPassword); wrong != nil {
		return wrong
	}
	if s.Passwords.Common(text) {
		return []fault.Field{fault.BodyField(name, "password_common", "This password is one of those that are guessed first: choose another one")}
	}
	if namesAccount(text, email) {
		return []fault.Field{fault.BodyField(name, "password_common", "A password without the name of the product and your own e-mail address is harder to guess: choose another one")}
	}
	return nil
}
