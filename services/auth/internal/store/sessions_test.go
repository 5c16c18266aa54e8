package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

func newSession(a agent.Agent) agent.Session {
	return agent.Session{
		ID: event.NewID(), AgentID: a.ID, CreatedAt: a.CreatedAt, LastUsedAt: a.CreatedAt.Add(time.Second), UserAgent: "phone", IP: "2001:db8::1",
		FamilyHash: []byte("family"), RefreshHash: []byte("refresh"),
	}
}

// login stores a new session and returns it as the store does, with its owner.
func login(t *testing.T, s stores, a agent.Agent) agent.Session {
	t.Helper()
	session := newSession(a)
	require.NoError(t, s.sessions.Create(t.Context(), session, a.PasswordSetAt))
	session.Owner = a
	return session
}

func sessions(t *testing.T, s stores, a agent.Agent) []agent.Session {
	t.Helper()
	found, err := s.sessions.List(t.Context(), a.ID, page.All())
	require.NoError(t, err)
	return found.Items
}

// revoked returns the event of a session that ended.
func revoked(id string) event.Event {
	return events.SessionRevoked.New(now, events.SessionEnd{SessionID: id})
}

func TestASessionIsFoundAsItWasCreatedWithItsOwner(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := createAgent(t, s, "asha@example.com")
	want := login(t, s, a)
	got, err := s.sessions.Find(t.Context(), want.ID)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, a, got.Owner)
	require.Equal(t, []agent.Session{want}, sessions(t, s, a))
	require.Empty(t, sessions(t, s, createAgent(t, s, "ben@example.com")))
}

func TestASessionThatDoesNotExist(t *testing.T) {
	t.Parallel()
	s := open(t)
	session, err := s.sessions.Find(t.Context(), event.NewID())
	require.Equal(t, "session_not_found", fault.Of(err).Code)
	require.Zero(t, session)
	_, err = s.sessions.Change(t.Context(), event.NewID(), func(*agent.Session) ([]event.Event, error) { return nil, nil })
	require.Equal(t, "session_not_found", fault.Of(err).Code)
	require.NoError(t, s.sessions.Remove(t.Context(), event.NewID(), "", revoked))
}

func TestNoSessionForAnOldPasswordOrAnInactiveAgent(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := createAgent(t, s, "asha@example.com")
	session := newSession(a)
	require.Equal(t, "session_not_found", fault.Of(s.sessions.Create(t.Context(), session, a.PasswordSetAt.Add(time.Microsecond))).Code)
	_, err := s.agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) { a.IsActive = false; return nil, nil })
	require.NoError(t, err)
	require.Equal(t, "session_not_found", fault.Of(s.sessions.Create(t.Context(), session, a.PasswordSetAt)).Code)
	require.Empty(t, sessions(t, s, a))
}

func TestAChangeOfASessionIsStoredWithItsEvents(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := createAgent(t, s, "asha@example.com")
	want := login(t, s, a)
	change := func(fail error) error {
		_, err := s.sessions.Change(t.Context(), want.ID, func(session *agent.Session) ([]event.Event, error) {
			require.Equal(t, a, session.Owner)
			session.LastUsedAt = session.LastUsedAt.Add(time.Minute)
			session.UserAgent, session.IP = "tablet", "192.0.2.9"
			session.SpentHash, session.RefreshHash, session.Nonce = session.RefreshHash, []byte("new"), []byte("nonce")
			return []event.Event{revoked(session.ID)}, fail
		})
		return err
	}
	require.Error(t, change(errors.New("no")))
	require.Equal(t, []agent.Session{want}, sessions(t, s, a))
	require.NoError(t, change(nil))
	want.LastUsedAt = want.LastUsedAt.Add(time.Minute)
	want.UserAgent, want.IP = "tablet", "192.0.2.9"
	want.SpentHash, want.RefreshHash, want.Nonce = want.RefreshHash, []byte("new"), []byte("nonce")
	require.Equal(t, []agent.Session{want}, sessions(t, s, a))
	require.Equal(t, []string{"agent.registered", "session.revoked"}, s.published(t))
}

func TestASessionEndsOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := createAgent(t, s, "asha@example.com")
	session := login(t, s, a)
	ended := race(4, func(int) bool {
		_, err := s.sessions.Change(t.Context(), session.ID, func(session *agent.Session) ([]event.Event, error) {
			session.EndedAt = session.CreatedAt
			return []event.Event{revoked(session.ID)}, nil
		})
		return err == nil
	})
	require.Equal(t, 1, ended)
	require.Empty(t, sessions(t, s, a))
	require.Equal(t, []string{"agent.registered", "session.revoked"}, s.published(t))
}

func TestAllSessionsButOneAreRemoved(t *testing.T) {
	t.Parallel()
	s := open(t)
	a, other := createAgent(t, s, "asha@example.com"), createAgent(t, s, "ben@example.com")
	login(t, s, a)
	current := login(t, s, a)
	login(t, s, a)
	others := login(t, s, other)
	require.NoError(t, s.sessions.Remove(t.Context(), a.ID, current.ID, revoked))
	require.Equal(t, []agent.Session{current}, sessions(t, s, a))
	require.Equal(t, []agent.Session{others}, sessions(t, s, other))
	require.Len(t, s.published(t), 4)
	require.NoError(t, s.sessions.Remove(t.Context(), a.ID, "", revoked))
	require.Empty(t, sessions(t, s, a))
	require.Len(t, s.published(t), 5)
}

func TestNoSessionIsCreatedWhileItsAgentIsDeactivated(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := createAgent(t, s, "asha@example.com")
	race(9, func(i int) bool {
		if i < 8 {
			return s.sessions.Create(t.Context(), newSession(a), a.PasswordSetAt) == nil
		}
		return s.db.InTx(t.Context(), func(ctx context.Context) error {
			_, err := s.agents.Change(ctx, a.ID, func(a *agent.Agent) ([]event.Event, error) { a.IsActive = false; return nil, nil })
			return errors.Join(err, s.sessions.Remove(ctx, a.ID, "", revoked))
		}) == nil
	})
	require.Empty(t, sessions(t, s, a))
}

// A concurrent renewal and deactivation do not deadlock: both end, one after the other.
func TestChangesOfASessionAndItsAgentDoNotDeadlock(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := createAgent(t, s, "asha@example.com")
	session := login(t, s, a)
	done := race(8, func(i int) bool {
		if i%2 == 0 {
			_, err := s.sessions.Change(t.Context(), session.ID, func(session *agent.Session) ([]event.Event, error) {
				session.LastUsedAt = session.LastUsedAt.Add(time.Second)
				return nil, nil
			})
			return err == nil || fault.Is(err, fault.NotFound)
		}
		return s.db.InTx(t.Context(), func(ctx context.Context) error {
			_, err := s.agents.Change(ctx, a.ID, func(*agent.Agent) ([]event.Event, error) { return nil, nil })
			return errors.Join(err, s.sessions.Remove(ctx, a.ID, "", revoked))
		}) == nil
	})
	require.Equal(t, 8, done)
	require.Empty(t, sessions(t, s, a))
}
