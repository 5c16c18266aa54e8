package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/store"
)

// list reads the whole list since a position, and returns the ids and the next position.
func list(t *testing.T, s stores, since string, limit int) (revoked map[string]bool, next string) {
	t.Helper()
	revoked = map[string]bool{}
	for {
		page, err := store.Revocations(s.db).List(t.Context(), since, limit)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.Entries), limit)
		for _, e := range page.Entries {
			revoked[e.ID] = e.Revoked
		}
		since = page.Next
		if !page.More {
			return revoked, since
		}
	}
}

// session stores a session of an agent.
func session(t *testing.T, s stores, agentID string) string {
	t.Helper()
	id := event.NewID()
	require.NoError(t, s.sessions.Create(t.Context(), agent.Session{ID: id, AgentID: agentID, CreatedAt: now, LastUsedAt: now}, now))
	return id
}

func (s stores) end(ctx context.Context, id string) error {
	_, err := s.sessions.Change(ctx, id, func(session *agent.Session) ([]event.Event, error) {
		session.EndedAt = now
		return nil, nil
	})
	return err
}

func TestRevocationsAreListedSinceAPosition(t *testing.T) {
	t.Parallel()
	s := open(t)
	ids := add(t, s, 2)
	empty, next := list(t, s, "", 2)
	require.Empty(t, empty)

	one, two, three := session(t, s, ids[0]), session(t, s, ids[0]), session(t, s, ids[1])
	require.NoError(t, s.end(t.Context(), one))
	require.NoError(t, s.sessions.Remove(t.Context(), ids[0], "", func(string) event.Event {
		return event.Event{ID: event.NewID(), Topic: "t", Key: "k", Type: "x", Data: []byte("{}")}
	}))
	setActive := func(active bool) {
		_, err := s.agents.Change(t.Context(), ids[0], func(a *agent.Agent) ([]event.Event, error) {
			a.IsActive, a.Version = active, a.Version+1
			return nil, nil
		})
		require.NoError(t, err)
	}
	setActive(false)
	want := map[string]bool{one: true, two: true, ids[0]: true}
	for _, limit := range []int{1, 2, 3, 4} {
		got, _ := list(t, s, next, limit)
		require.Equal(t, want, got)
		got, _ = list(t, s, "", limit)
		require.Equal(t, want, got)
	}
	// The position is before every transaction that is open, also those of other tests.
	require.Eventually(t, func() bool {
		var again map[string]bool
		again, next = list(t, s, next, 2)
		return len(again) == 0
	}, time.Minute, time.Millisecond)
	setActive(true)
	require.NoError(t, s.end(t.Context(), three))
	got, _ := list(t, s, next, 100)
	require.Equal(t, map[string]bool{ids[0]: false, three: true}, got, "only what is new")

	got, _ = list(t, s, "9000000000000000000", 100)
	require.Len(t, got, 4, "a position of a database that was newer before it was restored")
}

// The transaction that ends the first session commits after the list with the second one was read.
func TestARevocationThatCommitsLateIsNotMissed(t *testing.T) {
	t.Parallel()
	s := open(t)
	ids := add(t, s, 2)
	first, second := session(t, s, ids[0]), session(t, s, ids[1])
	var next string
	require.NoError(t, s.db.InTx(t.Context(), func(ctx context.Context) error {
		if err := s.end(ctx, first); err != nil {
			return err
		}
		err := s.end(t.Context(), second) // in a transaction of its own
		var got map[string]bool
		got, next = list(t, s, "", 1)
		require.Equal(t, map[string]bool{second: true}, got)
		return err
	}))
	got, _ := list(t, s, next, 1)
	require.Contains(t, got, first)
}

func TestARolledBackChangeRevokesNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	id := session(t, s, add(t, s, 1)[0])
	failed := errors.New("no")
	require.ErrorIs(t, s.db.InTx(t.Context(), func(ctx context.Context) error { return errors.Join(s.end(ctx, id), failed) }), failed)
	got, _ := list(t, s, "", 10)
	require.Empty(t, got)
}

// A revocation matters until the last token has expired. The longest-lived token may have been signed under another setting.
func TestRevocationsExpire(t *testing.T) {
	t.Parallel()
	s := open(t)
	_, err := s.db.Conn(t.Context()).Exec(t.Context(), `
		insert into signing_keys (kid, state, public, sealed, created_at, since, token_ttl) values (gen_random_uuid(), 'old', '', '', now(), now(), '2 days')`)
	require.NoError(t, err)
	for id, age := range map[string]time.Duration{"019abf00-0000-7000-8000-000000000001": 48*time.Hour + 9*time.Minute, "019abf00-0000-7000-8000-000000000002": 48*time.Hour + 11*time.Minute} {
		_, err := s.db.Conn(t.Context()).Exec(t.Context(), `insert into revocations (id, version, revoked, changed_at) values ($1, 0, true, $2)`, id, now.Add(-age))
		require.NoError(t, err)
	}
	require.NoError(t, store.Sweep(t.Context(), s.db, s.out, now, time.Hour))
	require.Equal(t, []string{"019abf00-0000-7000-8000-000000000001"}, pgtest.Column[string](t, s.db, `select id::text from revocations`))
	require.Equal(t, []string{"019abf00-0000-7000-8000-000000000002"}, pgtest.Column[string](t, s.db, `select key from outbox where data is null`), "a tombstone ends it on the topic")
}
