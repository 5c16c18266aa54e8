package agent

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// RegisterRequest is the request of a new agent.
type RegisterRequest struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	FullName string `json:"full_name"`
	Name     string `json:"name"` // the name of FullName in older apps
}

// Register creates an account. The first one of the platform becomes an admin.
func (s *Service) Register(ctx context.Context, r RegisterRequest) (Agent, error) {
	if !s.Open {
		return Agent{}, fault.New(fault.Forbidden, "registration_closed", "Registration is closed: ask your admin for an account")
	}
	email, wrong := s.readEmail(r.Email)
	if err := fields(wrong, s.checkPassword("password", r.Password, email), checkName(r.FullName, r.Name)); err != nil {
		return Agent{}, err
	}
	if err := s.admitRegistration(ctx); err != nil {
		return Agent{}, err
	}
	hash, err := s.Passwords.Hash(ctx, r.Password)
	if err != nil {
		return Agent{}, err
	}
	return s.Agents.Create(ctx, func(first bool) (Agent, []event.Event) {
		d := draft{email: email, passwordHash: hash, fullName: pickName(r.FullName, r.Name), role: identity.Agent}
		if first {
			d.role = identity.Admin
		}
		return create(d, s.Clock.Now())
	})
}

// RegistrationRequest is empty: the answer is the same for everybody.
type RegistrationRequest struct{}

// Registration says who may make an account.
type Registration struct {
	Open     bool
	FirstRun bool // whether the platform has had no account yet: the next one is its admin
}

// Registration returns who may make an account. It is public, and reveals no account.
func (s *Service) Registration(ctx context.Context, _ RegistrationRequest) (Registration, error) {
	created, err := s.Agents.EverCreated(ctx)
	return Registration{Open: s.Open, FirstRun: !created}, err
}

// admitRegistration counts a registration of the client's address, also one that fails afterwards. It fails with the Limited fault
// too_many_registrations.
func (s *Service) admitRegistration(ctx context.Context) error {
	if s.RegistrationsPerHour == 0 {
		return nil
	}
	key := s.attemptKey("registration", prefixOf(deviceOf(ctx).IP, 32))
	wait, err := s.Registrations.Create(ctx, key, s.Clock.Now(), s.RegistrationsPerHour)
	if err == nil && wait > 0 {
		err = fault.New(fault.Limited, "too_many_registrations", "Too many accounts were made from this address: try again later").After(wait.Truncate(time.Second) + time.Second)
	}
	return err
}

// MeRequest is empty: the account is the caller's.
type MeRequest struct{}

// Me returns the caller's own account.
func (s *Service) Me(ctx context.Context, _ MeRequest) (Agent, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Agent{}, err
	}
	a, err := s.Agents.Find(ctx, caller.AgentID)
	return a, own(err)
}

// own converts the error of an operation on the caller's own account, which may have been deleted since the request was admitted.
func own(err error) error {
	if fault.Is(err, fault.NotFound) {
		return sessionEnded()
	}
	return err
}

// UpdateRequest changes the caller's own account: nil leaves a field as it is.
type UpdateRequest struct {
	FullName *string `json:"full_name"`
	Name     *string `json:"name"` // the name of FullName in older apps
}

// Update changes the caller's own account.
func (s *Service) Update(ctx context.Context, r UpdateRequest) (Agent, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Agent{}, err
	}
	fullName := pickNewName(r.FullName, r.Name)
	if err := fields(checkNewName(fullName)); err != nil {
		return Agent{}, err
	}
	a, err := s.Agents.Change(ctx, caller.AgentID, func(a *Agent) ([]event.Event, error) {
		return a.edit(edit{FullName: fullName}, s.Clock.Now()), nil
	})
	return a, own(err)
}

// ChangePasswordRequest gives the caller a new password.
type ChangePasswordRequest struct {
	Current string `json:"current_password"`
	New     string `json:"new_password"`
}

// ChangePassword gives the caller a new password and ends all its other sessions. It fails with the Forbidden fault
// wrong_password. Wrong passwords cause delays as at login, but are counted separately, so that a stranger's login attempts
// cannot prevent the owner from changing the password.
func (s *Service) ChangePassword(ctx context.Context, r ChangePasswordRequest) (struct{}, error) {
	none := struct{}{}
	caller, err := identity.From(ctx)
	if err != nil {
		return none, err
	}
	if err := fields(s.checkPassword("new_password", r.New, "")); err != nil {
		return none, err
	}
	before, err := s.authenticate(ctx, caller.AgentID, r.Current)
	if err != nil {
		return none, own(err)
	}
	if err := fields(s.checkPassword("new_password", r.New, before.Email)); err != nil {
		return none, err
	}
	hash, err := s.Passwords.Hash(ctx, r.New)
	if err != nil {
		return none, err
	}
	now := s.Clock.Now()
	return none, own(s.Tx.InTx(ctx, func(ctx context.Context) error {
		_, err := s.Agents.Change(ctx, caller.AgentID, func(a *Agent) ([]event.Event, error) {
			if !a.PasswordSetAt.Equal(before.PasswordSetAt) {
				return nil, wrongPassword()
			}
			a.setPassword(hash, now)
			return nil, nil
		})
		if err != nil {
			return err
		}
		return s.endSessions(ctx, caller.AgentID, caller.SessionID, endedByPassword, now)
	}))
}

// authenticate returns the agent if the password is correct.
func (s *Service) authenticate(ctx context.Context, agentID, password string) (Agent, error) {
	attempt, err := s.attempt(ctx, "password", agentID)
	if err != nil {
		return Agent{}, err
	}
	a, err := s.Agents.Find(ctx, agentID)
	if err != nil {
		return Agent{}, err
	}
	right, err := s.Passwords.Verify(ctx, a.PasswordHash, password)
	if err != nil {
		return Agent{}, err
	}
	if !right {
		if err := s.Attempts.Change(ctx, attempt); err != nil {
			return Agent{}, err
		}
		return Agent{}, wrongPassword()
	}
	return a, s.succeed(ctx, attempt)
}

func wrongPassword() error {
	return fault.New(fault.Forbidden, "wrong_password", "The current password is wrong")
}

// succeed resets the counts of wrong passwords after a correct one, and remembers the network.
func (s *Service) succeed(ctx context.Context, a Attempt) error {
	if !a.Failed && a.At.Sub(a.KnownAt) < renewKnown {
		return nil
	}
	return s.Attempts.Remove(ctx, a)
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
