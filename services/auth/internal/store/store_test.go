package store_test

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/key"
	"github.com/convoflow/convoflow/services/auth/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var now = time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)

// stores are the stores of one fresh schema.
type stores struct {
	db       *pg.DB
	out      *outbox.Outbox
	agents   agent.Agents
	sessions agent.Sessions
	attempts agent.Attempts
}

func open(t *testing.T) stores {
	t.Helper()
	db := pgtest.Open(t, outbox.Migrations(), store.Migrations())
	out := outbox.New(db, telemetry.Nop())
	return stores{db, out, store.Agents(db, out), store.Sessions(db, out), store.Attempts(db)}
}

// published returns the types of the events in the outbox, oldest first.
func (s stores) published(t *testing.T) []string {
	t.Helper()
	return pgtest.Column[string](t, s.db, `select type from outbox order by id`)
}

// race runs do n times concurrently and returns how often it returned true.
func race(n int, do func(i int) bool) int {
	var wins atomic.Int64
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if do(i) {
				wins.Add(1)
			}
		})
	}
	all.Wait()
	return int(wins.Load())
}

// add stores n agents, the oldest first.
func add(t *testing.T, s stores, n int) (ids []string) {
	t.Helper()
	for i := range n {
		a, err := s.agents.Create(t.Context(), func(bool) (agent.Agent, []event.Event) {
			at := now.Add(time.Duration(i/2) * time.Second) // two at a time
			return agent.Agent{ID: event.NewID(), Email: fmt.Sprintf("agent%d@example.com", i), Role: "agent", IsActive: true, PasswordSetAt: now, CreatedAt: at, UpdatedAt: at}, nil
		})
		require.NoError(t, err)
		ids = append(ids, a.ID)
	}
	return ids
}

func TestPagesJoinWithoutGapOrOverlap(t *testing.T) {
	t.Parallel()
	s := open(t)
	ids := add(t, s, 7)
	for _, id := range ids {
		at := now.Add(time.Duration(len(id)) * time.Second)
		require.NoError(t, s.sessions.Create(t.Context(), agent.Session{ID: event.NewID(), AgentID: ids[0], CreatedAt: at, LastUsedAt: at}, now))
	}
	var agents, sessions []string
	for cursor, more := "", true; more; more = cursor != "" {
		found, err := s.agents.List(t.Context(), agent.ListRequest{Request: page.Request{Limit: 3, Cursor: cursor}})
		require.NoError(t, err)
		for _, a := range found.Items {
			agents = append([]string{a.ID}, agents...)
		}
		cursor = found.Next
	}
	require.Equal(t, ids, agents)
	for cursor, more := "", true; more; more = cursor != "" {
		found, err := s.sessions.List(t.Context(), ids[0], page.Request{Limit: 3, Cursor: cursor})
		require.NoError(t, err)
		for _, session := range found.Items {
			sessions = append([]string{session.ID}, sessions...)
		}
		cursor = found.Next
	}
	require.IsIncreasing(t, sessions)
	require.Len(t, sessions, 7)

	_, err := s.agents.List(t.Context(), agent.ListRequest{Request: page.Request{Limit: 3, Cursor: "nonsense"}})
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	_, err = s.sessions.List(t.Context(), ids[0], page.Request{Limit: 3, Cursor: "nonsense"})
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

func TestSweep(t *testing.T) {
	t.Parallel()
	s := open(t)
	id := add(t, s, 1)[0]
	const day = 24 * time.Hour
	for name, c := range map[string]struct{ created, used time.Duration }{
		"new":                           {0, 0},
		"idle":                          {14*day + time.Minute, 14*day + time.Minute},
		"busy":                          {29 * day, time.Hour},
		"old":                           {30*day + time.Minute, 3 * day},
		"old, its token is alive":       {30*day + time.Minute, day},
		"old, its token has just ended": {30*day + time.Minute, 2*day + time.Minute/2},
	} {
		session := agent.Session{ID: event.NewID(), AgentID: id, CreatedAt: now.Add(-c.created), LastUsedAt: now.Add(-c.used), UserAgent: name}
		require.NoError(t, s.sessions.Create(t.Context(), session, now))
	}
	for name, age := range map[string]time.Duration{"young": time.Hour - time.Second, "ancient": time.Hour + time.Second} {
		require.NoError(t, s.attempts.Change(t.Context(), agent.Attempt{Place: []byte(name + " here"), Account: []byte(name), At: now.Add(-age)}))
	}
	// More than one statement deletes.
	_, err := s.db.Conn(t.Context()).Exec(t.Context(), `insert into login_failures select sha256(n::text::bytea), 1, $1 from generate_series(1, 2500) n`, now.Add(-2*time.Hour))
	require.NoError(t, err)

	require.NoError(t, store.Sweep(t.Context(), s.db, s.out, now, 2*day))
	require.Equal(t, []string{"busy", "new", "old, its token has just ended", "old, its token is alive"}, pgtest.Column[string](t, s.db, `select user_agent from sessions order by user_agent collate "C"`))
	require.Equal(t, []string{"young", "young here"}, pgtest.Column[string](t, s.db, `select convert_from(key, 'UTF8') from login_failures order by 1`))
	require.Equal(t, []string{}, append([]string{}, s.published(t)...), "no event: their tokens have expired anyway")
}

const secret = "Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE"

func policy() key.Policy {
	return key.Policy{
		Signer: func(string, ed25519.PrivateKey, clock.Clock) key.Signer { return nil }, // nothing is signed
		Secret: secret, Rotation: 30 * 24 * time.Hour, TokenTTL: time.Hour,
	}
}

func TestReplicasThatStartTogetherAgreeOnTheKeys(t *testing.T) {
	t.Parallel()
	s := open(t)
	const replicas = 4
	sets := make([]any, replicas)
	var all sync.WaitGroup
	for i := range replicas {
		all.Go(func() {
			ring, err := key.Load(t.Context(), store.Keys(s.db), policy(), clock.System{})
			if err != nil {
				sets[i] = err
				return
			}
			sets[i] = ring.Published()
		})
	}
	all.Wait()
	require.NotImplements(t, (*error)(nil), sets[0])
	for _, other := range sets[1:] {
		require.Equal(t, sets[0], other)
	}
	require.Len(t, pgtest.Column[string](t, s.db, `select state from signing_keys`), 2)

	other := policy()
	other.Secret = "another secret of thirty-two letters"
	_, err := key.Load(t.Context(), store.Keys(s.db), other, clock.System{})
	require.ErrorIs(t, err, key.ErrSealed)
}

func TestKeysThroughTheirLife(t *testing.T) {
	t.Parallel()
	s := open(t)
	c := clock.At(now)
	replicas := make([]*key.Ring, 3)
	for i := range replicas {
		var err error
		replicas[i], err = key.Load(t.Context(), store.Keys(s.db), policy(), c)
		require.NoError(t, err)
	}
	refresh := func() []string {
		var all sync.WaitGroup
		errs := make([]error, len(replicas))
		for i, r := range replicas {
			all.Go(func() { errs[i] = r.Refresh(t.Context()) })
		}
		all.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		return pgtest.Column[string](t, s.db, `select state from signing_keys order by created_at, kid`)
	}
	require.Equal(t, []string{"signing", "next"}, refresh())
	untouched := pgtest.Column[string](t, s.db, `select xmin::text from signing_keys order by kid`)
	refresh()
	require.Equal(t, untouched, pgtest.Column[string](t, s.db, `select xmin::text from signing_keys order by kid`), "nothing to do writes nothing")
	c.Advance(30 * 24 * time.Hour)
	require.Equal(t, []string{"old", "signing", "next"}, refresh(), "one of the replicas rotates")
	c.Advance(2 * time.Hour)
	require.Equal(t, []string{"signing", "next"}, refresh())
	require.Equal(t, []time.Duration{time.Hour, time.Hour}, pgtest.Column[time.Duration](t, s.db, `select token_ttl from signing_keys`))
}

func TestThePreviousVersionStillWorks(t *testing.T) {
	t.Parallel()
	s := open(t)
	conn := s.db.Conn(t.Context())
	for _, sql := range []string{
		`insert into agents (id, version, email, password_hash, full_name, role, is_active, created_at, updated_at)
		 values ('0192f0c1-5b7a-7c3e-9d55-0a4f1b2c3d4e', 1, 'asha@example.com', 'hash', 'Asha', 'agent', true, now(), now())`,
		`insert into sessions (id, agent_id, created_at, last_used_at, user_agent, ip)
		 values ('0192f0c1-5b7a-7c3e-9d55-0a4f1b2c3d4f', '0192f0c1-5b7a-7c3e-9d55-0a4f1b2c3d4e', now(), now(), '', '')`,
		`insert into signing_keys (kid, state, public, sealed, created_at) values ('0192f0c1-5b7a-7c3e-9d55-0a4f1b2c3d40', 'signing', '', '', now())`,
	} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, strings.Fields(sql)[2])
	}
	session, err := s.sessions.Find(t.Context(), "0192f0c1-5b7a-7c3e-9d55-0a4f1b2c3d4f")
	require.NoError(t, err)
	require.NoError(t, s.sessions.Create(t.Context(), agent.Session{ID: event.NewID(), AgentID: session.AgentID}, session.Owner.PasswordSetAt))
}
