package agent_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

func TestCreateAgent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Open = false
	got, err := f.Create(t.Context(), agent.CreateRequest{Email: " Ben@Example.com", FullName: " Ben ", Password: new("violet-heron")})
	require.NoError(t, err)
	require.Equal(t, agent.Created{Agent: agent.Agent{
		ID: got.Agent.ID, Version: 1, Email: "ben@example.com", PasswordHash: "hash of violet-heron", PasswordSetAt: now, FullName: "Ben",
		Role: identity.Agent, IsActive: true, CreatedAt: now, UpdatedAt: now,
	}}, got)

	got, err = f.Create(t.Context(), agent.CreateRequest{Email: "cy@example.com", Name: "Cy", Role: identity.Admin, IsActive: new(false)})
	require.NoError(t, err)
	require.Len(t, got.Password, 26)
	require.Equal(t, "hash of "+got.Password, got.Agent.PasswordHash)
	require.Equal(t, identity.Admin, got.Agent.Role)
	require.False(t, got.Agent.IsActive)

	_, err = f.Create(t.Context(), agent.CreateRequest{Email: "ben@example.com", Name: "Ben"})
	require.Equal(t, "email_taken", fault.Of(err).Code)
	_, err = f.Create(t.Context(), agent.CreateRequest{Password: new("password")})
	require.Len(t, fault.Of(err).Fields, 3)
	published := f.events(t)
	require.Len(t, published, 2)
	second, err := events.AgentRegistered.Decode(published[1])
	require.NoError(t, err)
	require.False(t, second.Data.IsActive)
}

func TestUpdateAgent(t *testing.T) {
	t.Parallel()
	const admin, ben = "admin@example.com", "ben@example.com"
	for name, c := range map[string]struct {
		change agent.UpdateAgentRequest
		events []string
		ends   []string
	}{
		"nothing":     {agent.UpdateAgentRequest{}, nil, nil},
		"what it is":  {agent.UpdateAgentRequest{Email: new("BEN@example.com"), FullName: new(" Asha Rao "), IsActive: new(true), Role: new(identity.Admin)}, nil, nil},
		"e-mail":      {agent.UpdateAgentRequest{Email: new("Benny@example.com")}, []string{"agent.updated"}, nil},
		"name":        {agent.UpdateAgentRequest{FullName: new("Ben Okafor")}, []string{"agent.updated"}, nil},
		"older name":  {agent.UpdateAgentRequest{Name: new(" Ben Okafor ")}, []string{"agent.updated"}, nil},
		"role":        {agent.UpdateAgentRequest{Role: new(identity.Agent)}, []string{"agent.updated"}, []string{"role_changed", "role_changed"}},
		"password":    {agent.UpdateAgentRequest{Password: new("violet-heron")}, nil, []string{"password_changed", "password_changed"}},
		"deactivated": {agent.UpdateAgentRequest{IsActive: new(false)}, []string{"agent.deactivated"}, []string{"agent_deactivated", "agent_deactivated"}},
		"everything at once": {agent.UpdateAgentRequest{IsActive: new(false), Role: new(identity.Agent), FullName: new("Ben"), Password: new("violet-heron")},
			[]string{"agent.deactivated"}, []string{"agent_deactivated", "agent_deactivated"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.register(t, admin)
			f.register(t, ben)
			a, err := f.CreateAdmin(t.Context(), agent.CreateAdminRequest{Email: ben})
			require.NoError(t, err)
			tokens := []agent.AccessToken{f.login(t, ben), f.login(t, ben)}
			others := f.login(t, admin)
			before := len(f.events(t))
			f.clock.Advance(time.Minute)

			c.change.ID = a.ID
			got, err := f.UpdateAgent(t.Context(), c.change)
			require.NoError(t, err)
			var published []string
			for _, e := range f.events(t)[before:] {
				if e.Type != "session.revoked" {
					published = append(published, e.Type)
					updated, err := events.AgentUpdated.Decode(e)
					require.NoError(t, err)
					require.Equal(t, events.Agent{
						AgentID: got.ID, Version: a.Version + 1, Email: got.Email, FullName: got.FullName, Role: string(got.Role), IsActive: got.IsActive,
						CreatedAt: got.CreatedAt, UpdatedAt: now.Add(time.Minute),
					}, updated.Data)
				}
			}
			require.Equal(t, c.events, published)
			require.Equal(t, c.ends, f.ends(t))
			for _, token := range tokens {
				_, err := f.as(t, token.AccessToken)
				require.Equal(t, c.ends == nil, err == nil)
				_, err = f.Refresh(t.Context(), agent.RefreshRequest{RefreshToken: token.RefreshToken})
				require.Equal(t, c.ends == nil, err == nil)
			}
			f.mustAs(t, others.AccessToken)
			stored, err := f.Get(t.Context(), agent.IDRequest{ID: a.ID})
			require.NoError(t, err)
			require.Equal(t, stored, got)
		})
	}
}

func TestPromotionLeavesSessions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.register(t, "admin@example.com")
	ben := f.register(t, "ben@example.com")
	login := f.login(t, "ben@example.com")
	_, err := f.UpdateAgent(t.Context(), agent.UpdateAgentRequest{ID: ben.ID, Role: new(identity.Admin)})
	require.NoError(t, err)
	f.mustAs(t, login.AccessToken)
	renewed, code := f.refresh(t, login.RefreshToken)
	require.Empty(t, code)
	require.Contains(t, renewed.AccessToken, " admin", "the next token has the new role")
}

func TestUpdateAgentRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	admin := f.register(t, "admin@example.com")
	ben := f.register(t, "ben@example.com")
	login := f.login(t, "admin@example.com")
	for code, r := range map[string]agent.UpdateAgentRequest{
		"agent_not_found":  {ID: event.NewID(), FullName: new("X")},
		"email_taken":      {ID: ben.ID, Email: new("ADMIN@example.com")},
		"last_admin":       {ID: admin.ID, IsActive: new(false), Password: new("violet-heron")},
		"validation_error": {ID: ben.ID, Email: new("ben"), FullName: new(" "), Password: new("password")},
	} {
		_, err := f.UpdateAgent(t.Context(), r)
		require.Equal(t, code, fault.Of(err).Code)
		if code == "validation_error" {
			require.Len(t, fault.Of(err).Fields, 3)
		}
	}
	_, err := f.UpdateAgent(t.Context(), agent.UpdateAgentRequest{ID: admin.ID, Role: new(identity.Agent)})
	require.Equal(t, "last_admin", fault.Of(err).Code)
	f.mustAs(t, login.AccessToken)
	require.Len(t, f.events(t), 2, "what was refused left no trace")
}

func TestCreateAdmin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Open = false
	none := func() (string, error) { return "", errors.New("no password was needed") }
	ask := func() (string, error) { return "violet-heron", nil }
	made, err := f.CreateAdmin(t.Context(), agent.CreateAdminRequest{Email: "Root@Example.com", FullName: "Root", Password: ask})
	require.NoError(t, err)
	require.Equal(t, identity.Admin, made.Role)
	require.Equal(t, "hash of violet-heron", made.PasswordHash)

	ben, err := f.Create(t.Context(), agent.CreateRequest{Email: "ben@example.com", Name: "Ben", IsActive: new(false)})
	require.NoError(t, err)
	promoted, err := f.CreateAdmin(t.Context(), agent.CreateAdminRequest{Email: "BEN@example.com", Password: none})
	require.NoError(t, err)
	require.Equal(t, ben.Agent.ID, promoted.ID)
	require.Equal(t, ben.Agent.PasswordHash, promoted.PasswordHash)
	require.True(t, promoted.IsActive)
	require.Equal(t, identity.Admin, promoted.Role)
	again, err := f.CreateAdmin(t.Context(), agent.CreateAdminRequest{Email: "ben@example.com", Password: none})
	require.NoError(t, err)
	require.Equal(t, promoted, again)

	for _, r := range []agent.CreateAdminRequest{
		{Email: "root", FullName: "Root", Password: ask},
		{Email: "new@example.com", Password: ask},
		{Email: "new@example.com", FullName: "New", Password: none},
		{Email: "new@example.com", FullName: "New", Password: func() (string, error) { return "password", nil }},
	} {
		_, err := f.CreateAdmin(t.Context(), r)
		require.Error(t, err)
	}
	require.Len(t, f.events(t), 3)
}

func TestListAgents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.register(t, "asha@example.com")
	f.register(t, "ben@example.com")
	found, err := f.List(t.Context(), agent.ListRequest{Q: "BEN", Request: page.All()})
	require.NoError(t, err)
	require.Len(t, found.Items, 1)
	found, err = f.List(t.Context(), agent.ListRequest{Request: page.All()})
	require.NoError(t, err)
	require.Len(t, found.Items, 2)
}

func TestDelete(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.register(t, "admin@example.com")
	ben := f.register(t, "ben@example.com")
	tokens := []agent.AccessToken{f.login(t, "ben@example.com"), f.login(t, "ben@example.com")}
	others := f.login(t, "admin@example.com")
	ctx := f.mustAs(t, tokens[0].AccessToken) // of a request that was admitted before
	f.clock.Advance(time.Minute)
	before := len(f.events(t))
	erasure, err := f.Delete(byAdmin(t), agent.IDRequest{ID: ben.ID})
	require.NoError(t, err)

	published := f.events(t)[before:]
	deactivated, err := events.AgentDeactivated.Decode(published[0])
	require.NoError(t, err)
	require.Equal(t, events.AgentDeactivated.Name, published[0].Type)
	require.Equal(t, events.Agent{
		AgentID: ben.ID, Version: 2, Role: "agent", CreatedAt: now, UpdatedAt: now.Add(time.Minute),
	}, deactivated.Data)
	requested, err := events.ErasureRequested.Decode(published[1])
	require.NoError(t, err)
	require.Equal(t, erasure, requested.Data)
	require.Equal(t, events.Erasure{
		ErasureID: erasure.ErasureID, Kind: "agent", SubjectID: ben.ID, SubjectVersion: 2, RequestedBy: anAdmin, RequestedAt: now.Add(time.Minute),
	}, erasure)
	require.Len(t, published, 4)
	require.Equal(t, []string{"agent_deactivated", "agent_deactivated"}, f.ends(t))
	for _, token := range tokens {
		_, err := f.as(t, token.AccessToken)
		require.Equal(t, "session_ended", fault.Of(err).Code)
		_, code := f.refresh(t, token.RefreshToken)
		require.Equal(t, "invalid_refresh_token", code)
	}
	f.mustAs(t, others.AccessToken)
	for name, err := range map[string]error{
		"me":       errorOf(f.Me(ctx, agent.MeRequest{})),
		"update":   errorOf(f.Update(ctx, agent.UpdateRequest{FullName: new("Ben")})),
		"password": errorOf(f.ChangePassword(ctx, agent.ChangePasswordRequest{Current: password, New: "violet-heron"})),
	} {
		require.Equal(t, "session_ended", fault.Of(err).Code, name)
	}

	_, err = f.Login(from(t, "203.0.113.7"), agent.LoginRequest{Username: ben.Email, Password: password})
	require.Equal(t, "invalid_credentials", fault.Of(err).Code)
	require.Empty(t, f.passwords.verified[len(f.passwords.verified)-1], "as for an account that does not exist")
	for name, err := range map[string]error{
		"get":    errorOf(f.Get(t.Context(), agent.IDRequest{ID: ben.ID})),
		"update": errorOf(f.UpdateAgent(t.Context(), agent.UpdateAgentRequest{ID: ben.ID, IsActive: new(true)})),
		"delete": errorOf(f.Delete(byAdmin(t), agent.IDRequest{ID: ben.ID})),
		"nobody": errorOf(f.Delete(byAdmin(t), agent.IDRequest{ID: event.NewID()})),
	} {
		require.Equal(t, "agent_not_found", fault.Of(err).Code, name)
	}
	for name, err := range map[string]error{
		"register": errorOf(f.Register(t.Context(), agent.RegisterRequest{Email: ben.Email, Password: password, FullName: "Ben"})),
		"create":   errorOf(f.Create(t.Context(), agent.CreateRequest{Email: ben.Email, FullName: "Ben"})),
		"command": errorOf(f.CreateAdmin(t.Context(), agent.CreateAdminRequest{
			Email: ben.Email, FullName: "Ben", Password: func() (string, error) { return password, nil },
		})),
	} {
		require.Equal(t, "email_taken", fault.Of(err).Code, name)
	}
	found, err := f.List(t.Context(), agent.ListRequest{Request: page.All()})
	require.NoError(t, err)
	require.Len(t, found.Items, 1)
	require.Len(t, f.events(t)[before:], 4, "a refused request has no event")

	for range 2 { // also when it is delivered again
		require.NoError(t, f.OnErasureRequested(t.Context(), event.Received[events.Erasure]{Data: erasure}))
	}
	_, err = f.Create(t.Context(), agent.CreateRequest{Email: ben.Email, FullName: "Another Ben"})
	require.NoError(t, err, "the address is free once the agent has been erased")
	done, err := events.ErasureDone.Decode(f.events(t)[before+4])
	require.NoError(t, err)
	require.Equal(t, "auth", done.Data.Service)
	require.Equal(t, erasure.ErasureID, done.Data.ErasureID)
}

// anAdmin is the id of an admin.
const anAdmin = "019abf00-0000-7000-8000-00000000000a"

func byAdmin(t *testing.T) context.Context {
	t.Helper()
	return identity.With(t.Context(), identity.Caller{AgentID: anAdmin, Role: identity.Admin})
}

func TestDeleteOfAnInactiveAgent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.register(t, "admin@example.com")
	ben := f.register(t, "ben@example.com")
	_, err := f.UpdateAgent(t.Context(), agent.UpdateAgentRequest{ID: ben.ID, IsActive: new(false)})
	require.NoError(t, err)
	_, err = f.Delete(byAdmin(t), agent.IDRequest{ID: ben.ID})
	require.NoError(t, err)
	_, err = f.Get(t.Context(), agent.IDRequest{ID: ben.ID})
	require.Equal(t, "agent_not_found", fault.Of(err).Code)
}

func TestTheLastAdminCannotBeDeleted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	admin, ben := f.register(t, "admin@example.com"), f.register(t, "ben@example.com")
	login := f.login(t, "admin@example.com")
	_, err := f.Delete(f.mustAs(t, login.AccessToken), agent.IDRequest{ID: admin.ID})
	require.Equal(t, "last_admin", fault.Of(err).Code)
	f.mustAs(t, login.AccessToken)
	require.Len(t, f.events(t), 2, "nothing has changed")

	_, err = f.UpdateAgent(t.Context(), agent.UpdateAgentRequest{ID: ben.ID, Role: new(identity.Admin)})
	require.NoError(t, err)
	_, err = f.Delete(f.mustAs(t, login.AccessToken), agent.IDRequest{ID: admin.ID})
	require.NoError(t, err, "an admin may delete its own account when there is another")
	_, err = f.as(t, login.AccessToken)
	require.Equal(t, "session_ended", fault.Of(err).Code)
	_, err = f.Delete(byAdmin(t), agent.IDRequest{ID: ben.ID})
	require.Equal(t, "last_admin", fault.Of(err).Code, "a deleted admin does not count")
}

// errorOf returns the error of a call.
func errorOf[T any](_ T, err error) error { return err }
