package agenttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// Stores is everything that is kept, beside each other.
type Stores struct {
	Agents    agent.Agents
	Sessions  agent.Sessions
	Attempts  agent.Attempts
	Tx        agent.Tx
	Published func() []string // the types of the events, in order
}

// Suite holds stores to what the ports of package agent promise. empty makes new ones without content.
func Suite(t *testing.T, empty func(t *testing.T) Stores) {
	t.Run("agents", func(t *testing.T) { t.Parallel(); suiteOfAgents(t, empty) })
	t.Run("sessions", func(t *testing.T) { t.Parallel(); suiteOfSessions(t, empty) })
	t.Run("attempts", func(t *testing.T) { t.Parallel(); suiteOfAttempts(t, empty) })
}

func suiteOfAgents(t *testing.T, empty func(t *testing.T) Stores) {
	t.Run("an agent is found as it was created", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		agents, published := s.Agents, s.Published
		a, err := agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample("asha@example.com") })
		require.NoError(t, err)
		byID, err := agents.Find(t.Context(), a.ID)
		require.NoError(t, err)
		require.Equal(t, a, byID)
		byEmail, err := agents.FindByEmail(t.Context(), a.Email)
		require.NoError(t, err)
		require.Equal(t, a, byEmail)
		require.Equal(t, []string{"agent.registered"}, published())
	})
	t.Run("nobody is agent_not_found", func(t *testing.T) {
		t.Parallel()
		agents := empty(t).Agents
		_, err := agents.Find(t.Context(), event.NewID())
		require.Equal(t, "agent_not_found", fault.Of(err).Code)
		none, err := agents.FindByEmail(t.Context(), "nobody@example.com")
		require.Equal(t, "agent_not_found", fault.Of(err).Code)
		require.Zero(t, none)
		_, err = agents.Change(t.Context(), event.NewID(), func(*agent.Agent) ([]event.Event, error) { return nil, nil })
		require.Equal(t, "agent_not_found", fault.Of(err).Code)
	})
	t.Run("of many at once one is first", func(t *testing.T) {
		t.Parallel()
		agents := empty(t).Agents
		firsts := race(8, func(i int) bool {
			var was bool
			_, err := agents.Create(t.Context(), func(first bool) (agent.Agent, []event.Event) {
				was = first
				return sample(fmt.Sprintf("agent%d@example.com", i))
			})
			return err == nil && was
		})
		require.Equal(t, 1, firsts)
	})
	t.Run("of many with one address one is created", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		agents, published := s.Agents, s.Published
		created := race(8, func(int) bool {
			_, err := agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample("asha@example.com") })
			return err == nil
		})
		require.Equal(t, 1, created)
		_, err := agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample("asha@example.com") })
		require.Equal(t, "email_taken", fault.Of(err).Code)
		require.Equal(t, []string{"agent.registered"}, published())
	})
	t.Run("a change is kept with its events, one that fails is not", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		agents, published := s.Agents, s.Published
		a, err := agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample("asha@example.com") })
		require.NoError(t, err)
		changed, err := agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) {
			a.FullName, a.Role, a.IsActive, a.PasswordHash, a.Email, a.Version = "Asha Iyer", identity.Admin, false, "another", "iyer@example.com", 2
			a.PasswordSetAt = a.PasswordSetAt.Add(time.Second)
			a.UpdatedAt = a.UpdatedAt.Add(time.Minute)
			return []event.Event{events.AgentUpdated.New(a.UpdatedAt, events.Agent{AgentID: a.ID})}, nil
		})
		require.NoError(t, err)
		found, err := agents.Find(t.Context(), a.ID)
		require.NoError(t, err)
		require.Equal(t, changed, found)
		require.Equal(t, "Asha Iyer", found.FullName)

		refused := errors.New("no")
		_, err = agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) {
			a.FullName = "Somebody Else"
			return nil, refused
		})
		require.ErrorIs(t, err, refused)
		found, err = agents.Find(t.Context(), a.ID)
		require.NoError(t, err)
		require.Equal(t, changed, found)
		require.Equal(t, []string{"agent.registered", "agent.updated"}, published())
	})
	t.Run("changes of one agent come one after the other", func(t *testing.T) {
		t.Parallel()
		agents := empty(t).Agents
		a, err := agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample("asha@example.com") })
		require.NoError(t, err)
		done := race(8, func(int) bool {
			_, err := agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) {
				a.Version++
				return nil, nil
			})
			return err == nil
		})
		require.Equal(t, 8, done)
		found, err := agents.Find(t.Context(), a.ID)
		require.NoError(t, err)
		require.EqualValues(t, 9, found.Version)
	})
	t.Run("no two agents have one address", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		keep(t, s, "asha@example.com")
		ben := keep(t, s, "ben@example.com")
		_, err := s.Agents.Change(t.Context(), ben.ID, func(a *agent.Agent) ([]event.Event, error) {
			a.Email = "asha@example.com"
			return nil, nil
		})
		require.Equal(t, "email_taken", fault.Of(err).Code)
		found, err := s.Agents.Find(t.Context(), ben.ID)
		require.NoError(t, err)
		require.Equal(t, "ben@example.com", found.Email)
	})
	t.Run("a list is filtered and newest first", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
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
			_, err := s.Agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) {
				a, events := sample(each.email)
				a.FullName, a.Role, a.IsActive, a.CreatedAt = each.name, each.role, each.active, at.Add(time.Duration(i)*time.Second)
				return a, events
			})
			require.NoError(t, err)
		}
		yes, no := true, false
		for name, c := range map[string]struct {
			filter agent.Filter
			want   []string
		}{
			"everybody":  {agent.Filter{}, []string{"chandra@example.com", "ben@example.com", "asha@example.com"}},
			"by e-mail":  {agent.Filter{Q: "ASHA@"}, []string{"asha@example.com"}},
			"by name":    {agent.Filter{Q: "RAO"}, []string{"asha@example.com"}},
			"a wildcard": {agent.Filter{Q: "%"}, []string{"ben@example.com"}},
			"another":    {agent.Filter{Q: "_"}, nil},
			"admins":     {agent.Filter{Role: identity.Admin}, []string{"asha@example.com"}},
			"active":     {agent.Filter{IsActive: &yes}, []string{"ben@example.com", "asha@example.com"}},
			"inactive":   {agent.Filter{IsActive: &no}, []string{"chandra@example.com"}},
			"both":       {agent.Filter{IsActive: &no, Role: identity.Admin}, nil},
			"skipped":    {agent.Filter{Skip: 2}, []string{"asha@example.com"}},
		} {
			c.filter.Limit = 10
			page, err := s.Agents.List(t.Context(), c.filter)
			require.NoError(t, err, name)
			var got []string
			for _, a := range page.Items {
				got = append(got, a.Email)
			}
			require.Equal(t, c.want, got, name)
			require.Empty(t, page.Next, name)
		}
	})
	t.Run("the last active admin stays one", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		one, other := lead(t, s, "asha@example.com"), lead(t, s, "ben@example.com")
		let := func(a agent.Agent, change func(*agent.Agent)) error {
			_, err := s.Agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) { change(a); return nil, nil })
			return err
		}
		demote := func(a *agent.Agent) { a.Role = identity.Agent }
		deactivate := func(a *agent.Agent) { a.IsActive = false }
		admins := []agent.Agent{one, other}
		gone := race(2, func(i int) bool { return let(admins[i], demote) == nil })
		require.Equal(t, 1, gone, "of two who let go at the same time one stays")
		page, err := s.Agents.List(t.Context(), agent.Filter{Role: identity.Admin, Limit: 10})
		require.NoError(t, err)
		require.Len(t, page.Items, 1)
		for _, change := range []func(*agent.Agent){demote, deactivate} {
			require.Equal(t, "last_admin", fault.Of(let(page.Items[0], change)).Code)
		}
		require.NoError(t, let(page.Items[0], func(a *agent.Agent) { a.FullName = "New" }))
	})
	t.Run("what a transaction did is undone when it fails", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		a := keep(t, s, "asha@example.com")
		login(t, s, a)
		refused := errors.New("no")
		err := s.Tx.InTx(t.Context(), func(ctx context.Context) error {
			_, err := s.Agents.Change(ctx, a.ID, func(a *agent.Agent) ([]event.Event, error) {
				a.FullName = "New"
				return []event.Event{events.AgentUpdated.New(a.UpdatedAt, events.Agent{AgentID: a.ID})}, nil
			})
			require.NoError(t, err)
			require.NoError(t, s.Sessions.Remove(ctx, a.ID, "", "removed", a.CreatedAt))
			return refused
		})
		require.ErrorIs(t, err, refused)
		found, err := s.Agents.Find(t.Context(), a.ID)
		require.NoError(t, err)
		require.Equal(t, a, found)
		require.Len(t, sessions(t, s, a), 1)
		require.Equal(t, []string{"agent.registered"}, s.Published())
	})
}

func suiteOfSessions(t *testing.T, empty func(t *testing.T) Stores) {
	t.Run("a session is found as it was created, with its agent", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		a := keep(t, s, "asha@example.com")
		want := login(t, s, a)
		got, owner, err := s.Sessions.Find(t.Context(), want.ID)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, a, owner)
		require.Equal(t, []agent.Session{want}, sessions(t, s, a))
		require.Empty(t, sessions(t, s, keep(t, s, "ben@example.com")))
	})
	t.Run("one that is not there is session_not_found", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		session, owner, err := s.Sessions.Find(t.Context(), event.NewID())
		require.Equal(t, "session_not_found", fault.Of(err).Code)
		require.Zero(t, session)
		require.Zero(t, owner)
		err = s.Sessions.Change(t.Context(), event.NewID(), func(*agent.Session, agent.Agent) ([]event.Event, error) { return nil, nil })
		require.Equal(t, "session_not_found", fault.Of(err).Code)
		require.NoError(t, s.Sessions.Remove(t.Context(), event.NewID(), "", "removed", time.Time{}))
	})
	t.Run("what the password opened is closed when it no longer holds", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		a := keep(t, s, "asha@example.com")
		session := newSession(a)
		require.Equal(t, "session_not_found", fault.Of(s.Sessions.Create(t.Context(), session, a.PasswordSetAt.Add(time.Microsecond))).Code)
		_, err := s.Agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) { a.IsActive = false; return nil, nil })
		require.NoError(t, err)
		require.Equal(t, "session_not_found", fault.Of(s.Sessions.Create(t.Context(), session, a.PasswordSetAt)).Code)
		require.Empty(t, sessions(t, s, a))
	})
	t.Run("a change is kept with its events, one that fails is not", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		a := keep(t, s, "asha@example.com")
		want := login(t, s, a)
		change := func(fail error) error {
			return s.Sessions.Change(t.Context(), want.ID, func(session *agent.Session, owner agent.Agent) ([]event.Event, error) {
				require.Equal(t, a, owner)
				session.LastUsedAt = session.LastUsedAt.Add(time.Minute)
				session.UserAgent, session.IP = "tablet", "192.0.2.9"
				session.SpentHash, session.RefreshHash, session.Nonce = session.RefreshHash, []byte("new"), []byte("nonce")
				return []event.Event{agent.Ended(a.ID, session.ID, "removed", session.LastUsedAt)}, fail
			})
		}
		require.Error(t, change(errors.New("no")))
		require.Equal(t, []agent.Session{want}, sessions(t, s, a))
		require.NoError(t, change(nil))
		want.LastUsedAt = want.LastUsedAt.Add(time.Minute)
		want.UserAgent, want.IP = "tablet", "192.0.2.9"
		want.SpentHash, want.RefreshHash, want.Nonce = want.RefreshHash, []byte("new"), []byte("nonce")
		require.Equal(t, []agent.Session{want}, sessions(t, s, a))
		require.Equal(t, []string{"agent.registered", "session.revoked"}, s.Published())
	})
	t.Run("one that has ended is gone", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		a := keep(t, s, "asha@example.com")
		session := login(t, s, a)
		ended := race(4, func(int) bool {
			return s.Sessions.Change(t.Context(), session.ID, func(session *agent.Session, _ agent.Agent) ([]event.Event, error) {
				session.EndedAt = session.CreatedAt
				return []event.Event{agent.Ended(a.ID, session.ID, "logout", session.CreatedAt)}, nil
			}) == nil
		})
		require.Equal(t, 1, ended)
		require.Empty(t, sessions(t, s, a))
		require.Equal(t, []string{"agent.registered", "session.revoked"}, s.Published())
	})
	t.Run("all but one end", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		a, other := keep(t, s, "asha@example.com"), keep(t, s, "ben@example.com")
		login(t, s, a)
		kept := login(t, s, a)
		login(t, s, a)
		others := login(t, s, other)
		require.NoError(t, s.Sessions.Remove(t.Context(), a.ID, kept.ID, "password_changed", a.CreatedAt))
		require.Equal(t, []agent.Session{kept}, sessions(t, s, a))
		require.Equal(t, []agent.Session{others}, sessions(t, s, other))
		require.Len(t, s.Published(), 4)
		require.NoError(t, s.Sessions.Remove(t.Context(), a.ID, "", "agent_deactivated", a.CreatedAt))
		require.Empty(t, sessions(t, s, a))
		require.Len(t, s.Published(), 5)
	})
	t.Run("no session slips in while its agent is shut out", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		a := keep(t, s, "asha@example.com")
		race(9, func(i int) bool {
			if i < 8 {
				return s.Sessions.Create(t.Context(), newSession(a), a.PasswordSetAt) == nil
			}
			return s.Tx.InTx(t.Context(), func(ctx context.Context) error {
				_, err := s.Agents.Change(ctx, a.ID, func(a *agent.Agent) ([]event.Event, error) { a.IsActive = false; return nil, nil })
				return errors.Join(err, s.Sessions.Remove(ctx, a.ID, "", "agent_deactivated", a.CreatedAt))
			}) == nil
		})
		require.Empty(t, sessions(t, s, a))
	})
}

func suiteOfAttempts(t *testing.T, empty func(t *testing.T) Stores) {
	at := time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)
	attempt := agent.Attempt{Account: []byte("account"), Address: []byte("address")}
	begin := func(t *testing.T, s Stores, a agent.Attempt, at time.Time) agent.Attempt {
		t.Helper()
		a.At = at
		a, err := s.Attempts.Create(t.Context(), a)
		require.NoError(t, err)
		return a
	}
	fail := func(t *testing.T, s Stores, a agent.Attempt, times int) {
		t.Helper()
		for range times {
			begun := begin(t, s, a, at)
			require.Zero(t, begun.Wait)
			require.NoError(t, s.Attempts.Change(t.Context(), begun))
		}
	}
	t.Run("the delay grows from the 6th failure on", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		require.False(t, begin(t, s, attempt, at).Known)
		fail(t, s, attempt, 6)
		now := at
		for _, want := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900} {
			want *= time.Second
			refused := begin(t, s, attempt, now)
			require.Equal(t, want, refused.Wait)
			require.Empty(t, refused.Counted)
			require.Equal(t, time.Second, begin(t, s, attempt, now.Add(want-time.Second)).Wait, "asking too early changes nothing")
			now = now.Add(want)
			begun := begin(t, s, attempt, now)
			require.Zero(t, begun.Wait)
			require.Len(t, begun.Counted, 2)
			require.NoError(t, s.Attempts.Change(t.Context(), begun), "it is not counted twice")
		}
	})
	t.Run("only one of many attempts at once goes through a delay", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		fail(t, s, attempt, 6)
		through := race(8, func(int) bool {
			a := attempt
			a.At = at.Add(2 * time.Second)
			a, err := s.Attempts.Create(t.Context(), a)
			return err == nil && a.Wait == 0
		})
		require.Equal(t, 1, through)
	})
	t.Run("accounts and addresses are counted apart", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		for i := range 6 {
			fail(t, s, agent.Attempt{Account: []byte{byte(i)}, Address: []byte("address")}, 1)
		}
		require.Positive(t, begin(t, s, agent.Attempt{Account: []byte("fresh"), Address: []byte("address")}, at).Wait)
		require.Zero(t, begin(t, s, agent.Attempt{Account: []byte{0}, Address: []byte("elsewhere")}, at).Wait)
		require.Zero(t, begin(t, s, agent.Attempt{Account: []byte{0}}, at).Wait, "without an address")
	})
	t.Run("an attempt that one key refuses counts for none", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		fail(t, s, agent.Attempt{Account: []byte("account")}, 6)
		begin(t, s, agent.Attempt{Account: []byte("account")}, at.Add(2*time.Second)) // 7 now
		fail(t, s, agent.Attempt{Account: []byte("other"), Address: []byte("address")}, 6)
		now := at.Add(3 * time.Second) // the address is free, the account is not
		require.Equal(t, 3*time.Second, begin(t, s, attempt, now).Wait)
		begun := begin(t, s, agent.Attempt{Account: []byte("third"), Address: []byte("address")}, now)
		require.Zero(t, begun.Wait)
		require.Equal(t, [][]byte{[]byte("address")}, begun.Counted)
	})
	t.Run("success forgets the account and frees the address", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		fail(t, s, attempt, 6)
		now := at.Add(2 * time.Second)
		require.NoError(t, s.Attempts.Remove(t.Context(), begin(t, s, attempt, now)))
		next := begin(t, s, attempt, now)
		require.Zero(t, next.Wait)
		require.Equal(t, [][]byte{[]byte("address")}, next.Counted, "the address is still watched")
		require.Equal(t, 4*time.Second, begin(t, s, attempt, now).Wait)
	})
	t.Run("success before the delays leaves the address as it was", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		fail(t, s, attempt, 5)
		begun := begin(t, s, attempt, at)
		require.True(t, begun.Known)
		require.Empty(t, begun.Counted)
		require.NoError(t, s.Attempts.Remove(t.Context(), begun))
		fail(t, s, agent.Attempt{Account: []byte("account")}, 5)
		require.Zero(t, begin(t, s, agent.Attempt{Account: []byte("account")}, at).Wait)
		fail(t, s, agent.Attempt{Account: []byte("other"), Address: []byte("address")}, 1)
		require.Positive(t, begin(t, s, agent.Attempt{Account: []byte("third"), Address: []byte("address")}, at).Wait)
	})
	t.Run("after an hour without failures everything is new", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		fail(t, s, attempt, 6)
		begun := begin(t, s, attempt, at.Add(agent.FailureWindow))
		require.False(t, begun.Known)
		require.NoError(t, s.Attempts.Change(t.Context(), begun))
		begun = begin(t, s, attempt, at.Add(agent.FailureWindow))
		require.Zero(t, begun.Wait)
		require.Empty(t, begun.Counted)
	})
}

func keep(t *testing.T, s Stores, email string) agent.Agent {
	t.Helper()
	a, err := s.Agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) { return sample(email) })
	require.NoError(t, err)
	return a
}

func lead(t *testing.T, s Stores, email string) agent.Agent {
	t.Helper()
	a, err := s.Agents.Change(t.Context(), keep(t, s, email).ID, func(a *agent.Agent) ([]event.Event, error) {
		a.Role = identity.Admin
		return nil, nil
	})
	require.NoError(t, err)
	return a
}

func newSession(a agent.Agent) agent.Session {
	return agent.Session{
		ID: event.NewID(), AgentID: a.ID, CreatedAt: a.CreatedAt, LastUsedAt: a.CreatedAt.Add(time.Second), UserAgent: "phone", IP: "2001:db8::1",
		FamilyHash: []byte("family"), RefreshHash: []byte("refresh"),
	}
}

func login(t *testing.T, s Stores, a agent.Agent) agent.Session {
	t.Helper()
	session := newSession(a)
	require.NoError(t, s.Sessions.Create(t.Context(), session, a.PasswordSetAt))
	return session
}

func sessions(t *testing.T, s Stores, a agent.Agent) []agent.Session {
	t.Helper()
	page, err := s.Sessions.List(t.Context(), agent.SessionFilter{AgentID: a.ID, Limit: 100})
	require.NoError(t, err)
	return page.Items
}

func sample(email string) (agent.Agent, []event.Event) {
	at := time.Date(2026, 11, 24, 9, 30, 0, 123456000, time.UTC)
	a := agent.Agent{
		ID: event.NewID(), Version: 1, Email: email, PasswordHash: "hash", PasswordSetAt: at, FullName: "Asha Rao",
		Role: identity.Agent, IsActive: true, CreatedAt: at, UpdatedAt: at,
	}
	return a, []event.Event{events.AgentRegistered.New(at, events.Agent{AgentID: a.ID})}
}

// race does something n times at once and returns how often it was true.
func race(n int, do func(i int) bool) int {
	var wins int
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if do(i) {
				mu.Lock()
				defer mu.Unlock()
				wins++
			}
		})
	}
	all.Wait()
	return wins
}
