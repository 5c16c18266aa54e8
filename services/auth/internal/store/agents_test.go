package store_test

import (
	"context"
	"errors"
	"fmt"
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

func sample(email string) (agent.Agent, []event.Event) {
	at := time.Date(2026, 11, 24, 9, 30, 0, 123456000, time.UTC)
	a := agent.Agent{
		ID: event.NewID(), Version: 1, Email: email, PasswordHash: "hash", PasswordSetAt: at, FullName: "Asha Rao",
		Role: identity.Agent, IsActive: true, CreatedAt: at, UpdatedAt: at,
	}
	return a, []event.Event{events.AgentRegistered.New(at, events.Agent{AgentID: a.ID})}
}

func createAgent(t *testing.T, s stores, email string) agent.Agent {
	t.Helper()
	a, err := s.agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample(email) })
	require.NoError(t, err)
	return a
}

func createAdmin(t *testing.T, s stores, email string) agent.Agent {
	t.Helper()
	a, err := s.agents.Change(t.Context(), createAgent(t, s, email).ID, func(a *agent.Agent) ([]event.Event, error) {
		a.Role = identity.Admin
		return nil, nil
	})
	require.NoError(t, err)
	return a
}

func remove(a *agent.Agent) ([]event.Event, error) {
	a.IsActive, a.DeletedAt = false, &now
	return nil, nil
}

func TestAnAgentIsFoundAsItWasCreated(t *testing.T) {
	t.Parallel()
	s := open(t)
	a, err := s.agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample("asha@example.com") })
	require.NoError(t, err)
	byID, err := s.agents.Find(t.Context(), a.ID)
	require.NoError(t, err)
	require.Equal(t, a, byID)
	byEmail, err := s.agents.FindByEmail(t.Context(), a.Email)
	require.NoError(t, err)
	require.Equal(t, a, byEmail)
	require.Equal(t, []string{"agent.registered"}, s.published(t))
}

func TestAnAgentThatDoesNotExist(t *testing.T) {
	t.Parallel()
	s := open(t)
	_, err := s.agents.Find(t.Context(), event.NewID())
	require.Equal(t, "agent_not_found", fault.Of(err).Code)
	none, err := s.agents.FindByEmail(t.Context(), "nobody@example.com")
	require.Equal(t, "agent_not_found", fault.Of(err).Code)
	require.Zero(t, none)
	_, err = s.agents.Change(t.Context(), event.NewID(), func(*agent.Agent) ([]event.Event, error) { return nil, nil })
	require.Equal(t, "agent_not_found", fault.Of(err).Code)
}

func TestOfManyAtOnceOneIsFirst(t *testing.T) {
	t.Parallel()
	s := open(t)
	firsts := race(8, func(i int) bool {
		var was bool
		_, err := s.agents.Create(t.Context(), func(first bool) (agent.Agent, []event.Event) {
			was = first
			return sample(fmt.Sprintf("agent%d@example.com", i))
		})
		return err == nil && was
	})
	require.Equal(t, 1, firsts)
}

func TestOfManyWithOneAddressOneIsCreated(t *testing.T) {
	t.Parallel()
	s := open(t)
	created := race(8, func(int) bool {
		_, err := s.agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample("asha@example.com") })
		return err == nil
	})
	require.Equal(t, 1, created)
	_, err := s.agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample("asha@example.com") })
	require.Equal(t, "email_taken", fault.Of(err).Code)
	require.Equal(t, []string{"agent.registered"}, s.published(t))
}

func TestAChangeOfAnAgentIsStoredWithItsEvents(t *testing.T) {
	t.Parallel()
	s := open(t)
	a, err := s.agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample("asha@example.com") })
	require.NoError(t, err)
	changed, err := s.agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) {
		a.FullName, a.Role, a.IsActive, a.PasswordHash, a.Email, a.Version = "Asha Iyer", identity.Admin, false, "another", "iyer@example.com", 2
		a.PasswordSetAt = a.PasswordSetAt.Add(time.Second)
		a.UpdatedAt = a.UpdatedAt.Add(time.Minute)
		return []event.Event{events.AgentUpdated.New(a.UpdatedAt, events.Agent{AgentID: a.ID})}, nil
	})
	require.NoError(t, err)
	found, err := s.agents.Find(t.Context(), a.ID)
	require.NoError(t, err)
	require.Equal(t, changed, found)
	require.Equal(t, "Asha Iyer", found.FullName)

	refused := errors.New("no")
	_, err = s.agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) {
		a.FullName = "Somebody Else"
		return nil, refused
	})
	require.ErrorIs(t, err, refused)
	found, err = s.agents.Find(t.Context(), a.ID)
	require.NoError(t, err)
	require.Equal(t, changed, found)
	require.Equal(t, []string{"agent.registered", "agent.updated"}, s.published(t))
}

func TestChangesOfOneAgentAreSerialized(t *testing.T) {
	t.Parallel()
	s := open(t)
	a, err := s.agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample("asha@example.com") })
	require.NoError(t, err)
	done := race(8, func(int) bool {
		_, err := s.agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) {
			a.Version++
			return nil, nil
		})
		return err == nil
	})
	require.Equal(t, 8, done)
	found, err := s.agents.Find(t.Context(), a.ID)
	require.NoError(t, err)
	require.EqualValues(t, 9, found.Version)
}

func TestNoTwoAgentsHaveOneAddress(t *testing.T) {
	t.Parallel()
	s := open(t)
	createAgent(t, s, "asha@example.com")
	ben := createAgent(t, s, "ben@example.com")
	_, err := s.agents.Change(t.Context(), ben.ID, func(a *agent.Agent) ([]event.Event, error) {
		a.Email = "asha@example.com"
		return nil, nil
	})
	require.Equal(t, "email_taken", fault.Of(err).Code)
	found, err := s.agents.Find(t.Context(), ben.ID)
	require.NoError(t, err)
	require.Equal(t, "ben@example.com", found.Email)
}

func TestAListOfAgentsIsFilteredAndNewestFirst(t *testing.T) {
	t.Parallel()
	s := open(t)
	at := time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)
	for i, each := range []struct {
		email, name string
		role        identity.Role
		active      bool
	}{
		{"asha@example.com", "Asha Rao", identity.Admin, true},
		{"ben@example.com", "Ben 100%", identity.Agent, true},
		{"chandra@example.com", "Chandra Äsop", identity.Agent, false},
	} {
		_, err := s.agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) {
			a, events := sample(each.email)
			a.FullName, a.Role, a.IsActive, a.CreatedAt = each.name, each.role, each.active, at.Add(time.Duration(i)*time.Second)
			return a, events
		})
		require.NoError(t, err)
	}
	yes, no := true, false
	for name, c := range map[string]struct {
		filter agent.ListRequest
		want   []string
	}{
		"everybody":  {agent.ListRequest{}, []string{"chandra@example.com", "ben@example.com", "asha@example.com"}},
		"by e-mail":  {agent.ListRequest{Q: "ASHA@"}, []string{"asha@example.com"}},
		"by name":    {agent.ListRequest{Q: "RAO"}, []string{"asha@example.com"}},
		"a wildcard": {agent.ListRequest{Q: "%"}, []string{"ben@example.com"}},
		"another":    {agent.ListRequest{Q: "_"}, nil},
		"admins":     {agent.ListRequest{Role: identity.Admin}, []string{"asha@example.com"}},
		"active":     {agent.ListRequest{IsActive: &yes}, []string{"ben@example.com", "asha@example.com"}},
		"inactive":   {agent.ListRequest{IsActive: &no}, []string{"chandra@example.com"}},
		"both":       {agent.ListRequest{IsActive: &no, Role: identity.Admin}, nil},
		"skipped":    {agent.ListRequest{Request: page.Request{Limit: 10, Skip: 2}}, []string{"asha@example.com"}},
	} {
		if c.filter.Limit == 0 {
			c.filter.Request = page.All()
		}
		found, err := s.agents.List(t.Context(), c.filter)
		require.NoError(t, err, name)
		var got []string
		for _, a := range found.Items {
			got = append(got, a.Email)
		}
		require.Equal(t, c.want, got, name)
		require.Empty(t, found.Next, name)
	}
}

func TestTheLastActiveAdminRemainsOne(t *testing.T) {
	t.Parallel()
	s := open(t)
	one, other := createAdmin(t, s, "asha@example.com"), createAdmin(t, s, "ben@example.com")
	change := func(a agent.Agent, fn func(*agent.Agent)) error {
		_, err := s.agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) { fn(a); return nil, nil })
		return err
	}
	demote := func(a *agent.Agent) { a.Role = identity.Agent }
	deactivate := func(a *agent.Agent) { a.IsActive = false }
	admins := []agent.Agent{one, other}
	changed := race(2, func(i int) bool { return change(admins[i], demote) == nil })
	require.Equal(t, 1, changed, "of two that lose the role concurrently, one remains an admin")
	left, err := s.agents.List(t.Context(), agent.ListRequest{Role: identity.Admin, Request: page.All()})
	require.NoError(t, err)
	require.Len(t, left.Items, 1)
	for _, fn := range []func(*agent.Agent){demote, deactivate, func(a *agent.Agent) { _, _ = remove(a) }} {
		require.Equal(t, "last_admin", fault.Of(change(left.Items[0], fn)).Code)
	}
	require.NoError(t, change(left.Items[0], func(a *agent.Agent) { a.FullName = "New" }))
}

func TestAFailedTransactionIsRolledBack(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := createAgent(t, s, "asha@example.com")
	login(t, s, a)
	refused := errors.New("no")
	err := s.db.InTx(t.Context(), func(ctx context.Context) error {
		_, err := s.agents.Change(ctx, a.ID, func(a *agent.Agent) ([]event.Event, error) {
			a.FullName = "New"
			return []event.Event{events.AgentUpdated.New(a.UpdatedAt, events.Agent{AgentID: a.ID})}, nil
		})
		require.NoError(t, err)
		require.NoError(t, s.sessions.Remove(ctx, a.ID, "", revoked))
		return refused
	})
	require.ErrorIs(t, err, refused)
	found, err := s.agents.Find(t.Context(), a.ID)
	require.NoError(t, err)
	require.Equal(t, a, found)
	require.Len(t, sessions(t, s, a), 1)
	require.Equal(t, []string{"agent.registered"}, s.published(t))
}

func TestADeletedAgentIsNotFoundAndItsAddressRemainsTaken(t *testing.T) {
	t.Parallel()
	s := open(t)
	a, other := createAgent(t, s, "asha@example.com"), createAgent(t, s, "ben@example.com")
	session := login(t, s, a)
	_, err := s.agents.Change(t.Context(), a.ID, remove)
	require.NoError(t, err)

	_, err = s.agents.Find(t.Context(), a.ID)
	require.Equal(t, "agent_not_found", fault.Of(err).Code)
	found, err := s.agents.FindByEmail(t.Context(), a.Email)
	require.Equal(t, "agent_not_found", fault.Of(err).Code)
	require.Zero(t, found)
	_, err = s.agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) { a.IsActive = true; return nil, nil })
	require.Equal(t, "agent_not_found", fault.Of(err).Code)
	listed, err := s.agents.List(t.Context(), agent.ListRequest{Request: page.All()})
	require.NoError(t, err)
	require.Equal(t, []agent.Agent{other}, listed.Items)
	require.Equal(t, "session_not_found", fault.Of(s.sessions.Create(t.Context(), newSession(a), a.PasswordSetAt)).Code)
	left, err := s.sessions.Find(t.Context(), session.ID)
	require.NoError(t, err)
	require.False(t, left.Owner.IsActive, "a remaining session admits no one")

	_, err = s.agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample(a.Email) })
	require.Equal(t, "email_taken", fault.Of(err).Code)
	_, err = s.agents.Change(t.Context(), other.ID, func(other *agent.Agent) ([]event.Event, error) { other.Email = a.Email; return nil, nil })
	require.Equal(t, "email_taken", fault.Of(err).Code)
}

func TestFirstAgentThatFailsIsNotFirst(t *testing.T) {
	t.Parallel()
	s := open(t)
	var firsts []bool
	for _, id := range []string{"no uuid", event.NewID()} {
		_, _ = s.agents.Create(t.Context(), func(first bool) (agent.Agent, []event.Event) {
			firsts = append(firsts, first)
			return agent.Agent{ID: id, Email: "asha@example.com", Role: "agent"}, nil
		})
	}
	require.Equal(t, []bool{true, true}, firsts)
}
