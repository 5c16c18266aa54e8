package agent

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
)

// ListRequest is the query of a list of agents.
type ListRequest struct {
	Q        string        `query:"q"`         // part of the e-mail or name, regardless of case
	Role     identity.Role `query:"role"`      // empty for both
	IsActive *bool         `query:"is_active"` // nil for both
	page.Request
}

// List returns a page of the platform's agents, newest first. Every agent may see them, because leads are assigned by name.
func (s *Service) List(ctx context.Context, r ListRequest) (page.Of[Agent], error) {
	return s.Agents.List(ctx, r)
}

// IDRequest names one agent.
type IDRequest struct {
	ID string `path:"id"`
}

// Get returns an agent. It fails with NotFound.
func (s *Service) Get(ctx context.Context, r IDRequest) (Agent, error) {
	return s.Agents.Find(ctx, r.ID)
}

// CreateRequest is an admin's request for a new account.
type CreateRequest struct {
	Email    string        `json:"email"`
	FullName string        `json:"full_name"`
	Name     string        `json:"name"`      // the name of FullName in older apps
	Role     identity.Role `json:"role"`      // empty for agent
	IsActive *bool         `json:"is_active"` // nil for true
	Password *string       `json:"password"`  // nil to generate one
}

// Created is a new agent, with its password if it was generated. It cannot be read again.
type Created struct {
	Agent    Agent
	Password string
}

// Create creates an account for another user. Like all operations below, it is for admins: the contract says so and the router
// enforces it.
func (s *Service) Create(ctx context.Context, r CreateRequest) (Created, error) {
	generated := ""
	if r.Password == nil {
		generated = rand.Text()
		r.Password = &generated
	}
	email, wrong := s.readEmail(r.Email)
	if err := fields(wrong, checkName(r.FullName, r.Name), s.checkPassword("password", *r.Password, email)); err != nil {
		return Created{}, err
	}
	hash, err := s.Passwords.Hash(ctx, *r.Password)
	if err != nil {
		return Created{}, err
	}
	d := draft{email: email, passwordHash: hash, fullName: pickName(r.FullName, r.Name), role: r.Role, inactive: !or(r.IsActive, true)}
	if d.role == "" {
		d.role = identity.Agent
	}
	a, err := s.Agents.Create(ctx, func(bool) (Agent, []event.Event) { return create(d, s.Clock.Now()) })
	return Created{a, generated}, err
}

// UpdateAgentRequest changes any account: nil leaves a field as it is.
type UpdateAgentRequest struct {
	ID       string         `path:"id"`
	Email    *string        `json:"email"`
	FullName *string        `json:"full_name"`
	Name     *string        `json:"name"` // the name of FullName in older apps
	Role     *identity.Role `json:"role"`
	IsActive *bool          `json:"is_active"`
	Password *string        `json:"password"`
}

// edit checks the request and returns what it changes, except the password.
func (s *Service) edit(ctx context.Context, r UpdateAgentRequest) (edit, error) {
	e := edit{FullName: pickNewName(r.FullName, r.Name), Role: r.Role, IsActive: r.IsActive}
	email, wrong := "", []fault.Field(nil)
	if r.Email != nil {
		email, wrong = s.readEmail(*r.Email)
		e.Email = &email
	}
	wrong = append(wrong, checkNewName(e.FullName)...)
	if r.Password != nil {
		if r.Email == nil {
			a, err := s.Agents.Find(ctx, r.ID)
			if err != nil {
				return e, err
			}
			email = a.Email
		}
		wrong = append(wrong, s.checkPassword("password", *r.Password, email)...)
	}
	return e, fields(wrong)
}

// UpdateAgent changes any account. Deactivating it, removing its admin role and setting a new password end all its sessions in
// the same transaction. It fails with LastAdmin if no active admin would be left.
func (s *Service) UpdateAgent(ctx context.Context, r UpdateAgentRequest) (a Agent, err error) {
	change, err := s.edit(ctx, r)
	if err != nil {
		return Agent{}, err
	}
	hash := ""
	if r.Password != nil {
		if hash, err = s.Passwords.Hash(ctx, *r.Password); err != nil {
			return Agent{}, err
		}
	}
	now := s.Clock.Now()
	err = s.Tx.InTx(ctx, func(ctx context.Context) error {
		reason := ""
		a, err = s.Agents.Change(ctx, r.ID, func(a *Agent) ([]event.Event, error) {
			before := *a
			events := a.edit(change, now)
			if hash != "" {
				a.setPassword(hash, now)
			}
			reason = endReason(before, *a)
			return events, nil
		})
		if err != nil || reason == "" {
			return err
		}
		return s.endSessions(ctx, r.ID, "", reason, now)
	})
	if err != nil {
		return Agent{}, err
	}
	return a, nil
}

// endReason returns why a change ends the sessions of an agent, whose tokens still have the old role; empty if they continue.
func endReason(before, after Agent) string {
	switch {
	case before.IsActive && !after.IsActive:
		return endedByDeactivation
	case before.Role == identity.Admin && after.Role != identity.Admin:
		return endedByDemotion
	case before.PasswordHash != after.PasswordHash:
		return endedByPassword
	default:
		return ""
	}
}

// Delete deletes any account, also the caller's own, and requests its erasure in every service. Its sessions end in the same
// transaction, and from then on it is NotFound for everyone. It fails with LastAdmin if no active admin would be left.
func (s *Service) Delete(ctx context.Context, r IDRequest) (erasure events.Erasure, err error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return events.Erasure{}, err
	}
	now := s.Clock.Now()
	err = s.Tx.InTx(ctx, func(ctx context.Context) error {
		_, err := s.Agents.Change(ctx, r.ID, func(a *Agent) ([]event.Event, error) {
			removed := a.remove(now)
			erasure = a.erase(caller.AgentID, now)
			return append(removed, events.ErasureRequested.New(now, erasure)), nil
		})
		if err != nil {
			return err
		}
		return s.endSessions(ctx, r.ID, "", endedByDeactivation, now)
	})
	return erasure, err
}

// CreateAdminRequest creates or promotes an admin.
type CreateAdminRequest struct {
	Email    string
	FullName string                 // of a new account
	Password func() (string, error) // called only for a new account
}

// CreateAdmin makes an account an active admin, or creates the account if none has the address.
func (s *Service) CreateAdmin(ctx context.Context, r CreateAdminRequest) (Agent, error) {
	email, wrong := s.readEmail(r.Email)
	if err := fields(wrong); err != nil {
		return Agent{}, err
	}
	a, err := s.Agents.FindByEmail(ctx, email)
	if err == nil {
		admin, active := identity.Admin, true
		return s.Agents.Change(ctx, a.ID, func(a *Agent) ([]event.Event, error) {
			return a.edit(edit{Role: &admin, IsActive: &active}, s.Clock.Now()), nil
		})
	}
	if !fault.Is(err, fault.NotFound) {
		return Agent{}, err
	}
	if err := fields(checkFullName(strings.TrimSpace(r.FullName))); err != nil {
		return Agent{}, err
	}
	password, err := r.Password()
	if err != nil {
		return Agent{}, err
	}
	created, err := s.Create(ctx, CreateRequest{Email: r.Email, FullName: r.FullName, Role: identity.Admin, Password: &password})
	return created.Agent, err
}
