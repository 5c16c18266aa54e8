package agent

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Filter chooses a page of agents, newest first.
type Filter struct {
	Q        string        // part of the e-mail or the name, without case
	Role     identity.Role // empty for both
	IsActive *bool         // nil for both
	Limit    int
	Cursor   string // from Page.Next
	Skip     int
}

// Page is a page of agents.
type Page struct {
	Items []Agent
	Next  string // cursor of the next page, empty on the last
}

// ListRequest asks an admin's question: who is there.
type ListRequest struct {
	Q        string        `query:"q"`
	Role     identity.Role `query:"role"`
	IsActive *bool         `query:"is_active"`
	Limit    int           `query:"limit"`
	Cursor   string        `query:"cursor"`
	Skip     int           `query:"skip"`
}

// List is the agents of the platform. Like everything below it is for admins, which the contract says and the router holds.
func (s *Service) List(ctx context.Context, r ListRequest) (Page, error) {
	return s.Agents.List(ctx, Filter{Q: r.Q, Role: r.Role, IsActive: r.IsActive, Limit: limit(r.Limit), Cursor: r.Cursor, Skip: r.Skip})
}

// GetRequest names an agent.
type GetRequest struct {
	ID string `path:"id"`
}

// Get is one agent.
func (s *Service) Get(ctx context.Context, r GetRequest) (Agent, error) {
	return s.Agents.Find(ctx, r.ID)
}

// CreateRequest makes an account for somebody else.
type CreateRequest struct {
	Email    string        `json:"email"`
	FullName string        `json:"full_name"`
	Name     string        `json:"name"`
	Role     identity.Role `json:"role"`      // empty for agent
	IsActive *bool         `json:"is_active"` // nil for true
	Password *string       `json:"password"`  // nil for one that is made here
}

// Created is a new agent, with its password if that was made here. Nobody can read it again.
type Created struct {
	Agent    Agent
	Password string
}

// Create makes an account for somebody else.
func (s *Service) Create(ctx context.Context, r CreateRequest) (Created, error) {
	generated := ""
	if r.Password == nil {
		generated = rand.Text()
		r.Password = &generated
	}
	if err := fields(checkEmail(r.Email), checkName(r.FullName, r.Name), s.checkPassword("password", *r.Password)); err != nil {
		return Created{}, err
	}
	hash, err := s.Passwords.Hash(ctx, *r.Password)
	if err != nil {
		return Created{}, err
	}
	d := draft{email: normalize(r.Email), passwordHash: hash, fullName: pickName(r.FullName, r.Name), role: r.Role, inactive: !or(r.IsActive, true)}
	if d.role == "" {
		d.role = identity.Agent
	}
	a, err := s.Agents.Create(ctx, func(bool) (Agent, []event.Event) { return create(d, s.Clock.Now()) })
	return Created{a, generated}, err
}

// UpdateAgentRequest changes somebody's account: nil leaves a field as it is.
type UpdateAgentRequest struct {
	ID       string         `path:"id"`
	Email    *string        `json:"email"`
	FullName *string        `json:"full_name"`
	Role     *identity.Role `json:"role"`
	IsActive *bool          `json:"is_active"`
	Password *string        `json:"password"`
}

func (s *Service) checkUpdate(r UpdateAgentRequest) error {
	var wrong []fault.Field
	if r.Email != nil {
		wrong = append(wrong, checkEmail(*r.Email)...)
	}
	if r.FullName != nil {
		wrong = append(wrong, checkFullName(strings.TrimSpace(*r.FullName))...)
	}
	if r.Password != nil {
		wrong = append(wrong, s.checkPassword("password", *r.Password)...)
	}
	return fields(wrong)
}

func (r UpdateAgentRequest) edit() edit {
	e := edit{Role: r.Role, IsActive: r.IsActive}
	if r.Email != nil {
		email := normalize(*r.Email)
		e.Email = &email
	}
	if r.FullName != nil {
		fullName := strings.TrimSpace(*r.FullName)
		e.FullName = &fullName
	}
	return e
}

// UpdateAgent changes somebody's account. Deactivating it, taking its admin role and giving it a new password end all its
// sessions in the same transaction. The last active admin stays one: Conflict fault last_admin.
func (s *Service) UpdateAgent(ctx context.Context, r UpdateAgentRequest) (a Agent, err error) {
	if err := s.checkUpdate(r); err != nil {
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
		ends := ""
		a, err = s.Agents.Change(ctx, r.ID, func(a *Agent) ([]event.Event, error) {
			before := *a
			events := a.edit(r.edit(), now)
			if hash != "" {
				a.choose(hash, now)
			}
			ends = shutsOut(before, *a)
			return events, nil
		})
		if err != nil || ends == "" {
			return err
		}
		return s.Sessions.Remove(ctx, r.ID, "", ends, now)
	})
	if err != nil {
		return Agent{}, err
	}
	return a, nil
}

// shutsOut is why a change ends the sessions of an agent, empty when it does not. Their tokens say what was true before.
func shutsOut(before, after Agent) string {
	switch {
	case before.IsActive && !after.IsActive:
		return endedByDeactivated
	case before.Role == identity.Admin && after.Role != identity.Admin:
		return endedByDemotion
	case before.PasswordHash != after.PasswordHash:
		return endedByPassword
	default:
		return ""
	}
}

// CreateAdminRequest makes or promotes an admin.
type CreateAdminRequest struct {
	Email    string
	FullName string                 // of a new account
	Password func() (string, error) // is asked only for a new account
}

// CreateAdmin makes an account an active admin. When nobody has the address it makes the account.
func (s *Service) CreateAdmin(ctx context.Context, r CreateAdminRequest) (Agent, error) {
	if err := fields(checkEmail(r.Email)); err != nil {
		return Agent{}, err
	}
	a, err := s.Agents.FindByEmail(ctx, normalize(r.Email))
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
