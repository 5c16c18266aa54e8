package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/agent/agenttest"
	"github.com/convoflow/convoflow/services/auth/internal/key"
	"github.com/convoflow/convoflow/services/auth/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func open(t *testing.T) *pg.DB {
	t.Helper()
	db, err := pg.Open(t.Context(), pg.Config{URL: conf.Secret(pgtest.Schema(t)), MaxConns: 4}, "auth", telemetry.Nop())
	require.NoError(t, err)
	t.Cleanup(db.Close)
	require.NoError(t, db.Migrate(t.Context(), outbox.Migrations(), store.Migrations()))
	return db
}

func TestAgents(t *testing.T) {
	t.Parallel()
	agenttest.Suite(t, func(t *testing.T) (agent.Agents, func() []string) {
		db := open(t)
		return store.NewAgents(db, outbox.New(db, telemetry.Nop())), func() []string { return published(t, db) }
	})
}

func published(t *testing.T, db *pg.DB) []string {
	t.Helper()
	rows, err := db.Conn(t.Context()).Query(t.Context(), `select type from outbox order by id`)
	require.NoError(t, err)
	types, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return types
}

func TestFirstAgentThatFailsIsNotFirst(t *testing.T) {
	t.Parallel()
	db := open(t)
	agents := store.NewAgents(db, outbox.New(db, telemetry.Nop()))
	var firsts []bool
	for _, id := range []string{"no uuid", contract.NewID()} {
		_, _ = agents.Create(t.Context(), func(first bool) (agent.Agent, []contract.Event) {
			firsts = append(firsts, first)
			return agent.Agent{ID: id, Email: "asha@example.com", Role: "agent"}, nil
		})
	}
	require.Equal(t, []bool{true, true}, firsts)
}

func TestSessions(t *testing.T) {
	t.Parallel()
	db := open(t)
	a, err := store.NewAgents(db, outbox.New(db, telemetry.Nop())).Create(t.Context(), func(bool) (agent.Agent, []contract.Event) {
		return agent.Agent{ID: contract.NewID(), Email: "asha@example.com", Role: "agent"}, nil
	})
	require.NoError(t, err)
	at := time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)
	want := agent.Session{ID: contract.NewID(), AgentID: a.ID, CreatedAt: at, LastUsedAt: at.Add(time.Minute), UserAgent: "phone", IP: "2001:db8::1"}
	require.NoError(t, store.NewSessions(db).Create(t.Context(), want))

	rows, err := db.Conn(t.Context()).Query(t.Context(), `select id, agent_id, created_at, last_used_at, user_agent, ip from sessions`)
	require.NoError(t, err)
	got, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[agent.Session])
	require.NoError(t, err)
	got.CreatedAt, got.LastUsedAt = got.CreatedAt.UTC(), got.LastUsedAt.UTC()
	require.Equal(t, want, got)

	want.ID, want.AgentID = contract.NewID(), contract.NewID()
	require.Error(t, store.NewSessions(db).Create(t.Context(), want), "a session of nobody")
}

func TestReplicasThatStartTogetherAgreeOnTheKeys(t *testing.T) {
	t.Parallel()
	db := open(t)
	const replicas = 4
	sets := make([]any, replicas)
	var all sync.WaitGroup
	for i := range replicas {
		all.Go(func() {
			ring, err := key.Load(t.Context(), store.NewKeys(db), "Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE", clock.System{})
			if err != nil {
				sets[i] = err
				return
			}
			sets[i], _ = ring.JWKS(t.Context(), key.JWKSRequest{})
		})
	}
	all.Wait()
	require.NotImplements(t, (*error)(nil), sets[0])
	for _, other := range sets[1:] {
		require.Equal(t, sets[0], other)
	}
	var n int
	require.NoError(t, db.Conn(t.Context()).QueryRow(t.Context(), `select count(*) from signing_keys`).Scan(&n))
	require.Equal(t, 2, n)

	_, err := key.Load(t.Context(), store.NewKeys(db), "another secret of thirty-two letters", clock.System{})
	require.ErrorIs(t, err, key.ErrSealed)
}
