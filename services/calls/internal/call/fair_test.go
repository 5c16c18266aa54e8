package call_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// work runs the queue's jobs in its order until there are none, and returns the agents of the calls in the order of their completion.
func (f *fixture) work(t *testing.T) (agents []string) {
	t.Helper()
	type job struct {
		id    string
		epoch int64
	}
	for {
		var next job
		rows, err := f.db.Conn(t.Context()).Query(t.Context(), `
			delete from river_job where id = (select id from river_job where state = 'available' order by priority, scheduled_at, id limit 1)
			returning args->>'id', (args->>'epoch')::bigint`)
		require.NoError(t, err)
		found := rows.Next()
		if found {
			require.NoError(t, rows.Scan(&next.id, &next.epoch))
		}
		rows.Close()
		if !found {
			return pgtest.Column[string](t, f.db, `select c.agent_id::text from outbox o join calls c on c.id = o.key::uuid where o.type = 'transcription.completed' order by o.id`)
		}
		require.NoError(t, f.processor.Transcribe(t.Context(), next.id, next.epoch))
	}
}

// One call once waited for 195 s behind another agent's 300.
func TestAgentsTakeTurns(t *testing.T) {
	t.Parallel()
	f := open(t)
	busy, other := event.NewID(), event.NewID()
	queue := func(agent string, n int) {
		for range n {
			c, events := call.New(event.NewID(), agent, call.Details{CallType: "default", CallTag: "connected", RecordedAt: noon()}, nil, call.Recording{Key: "x"}, noon())
			require.NoError(t, f.calls.Create(t.Context(), c, events...))
		}
	}
	queue(busy, 30)
	queue(other, 5)
	served := f.work(t)
	require.Len(t, served, 35)
	last := 0
	for i, agent := range served {
		if agent == other {
			last = i
		}
	}
	require.LessOrEqual(t, last, 10, "every second one is the other agent's")
	require.Equal(t, []int{0}, pgtest.Column[int](t, f.db, `select count(*)::int from calls where status <> 'completed'`))
	require.Equal(t, int64(70), f.provider.transcribed.Load(), "each once")
}

// A call that waits for its next attempt is not begun before that, whosever turn it is.
func TestATurnIsNotTakenBeforeItIsDue(t *testing.T) {
	t.Parallel()
	f := open(t)
	waiting, mine := f.create(t), f.create(t)
	_, err := f.calls.Change(t.Context(), waiting, func(c *call.Call) ([]event.Event, error) { return c.Begin(1, worker, ttl, noon()) })
	require.NoError(t, err)
	_, err = f.calls.Change(t.Context(), waiting, func(c *call.Call) ([]event.Event, error) {
		return c.Fail(c.Lease.Epoch, errDown, f.processor.Waits, 0, noon())
	})
	require.NoError(t, err)
	_, err = f.calls.Change(t.Context(), mine, func(c *call.Call) ([]event.Event, error) { return nil, c.GiveWay(1) })
	require.NoError(t, err)
	f.exec(t, `insert into turns values ($1, now() + interval '1 hour')`, f.find(t, mine).AgentID)
	_, ok, err := f.processor.Leases.Turn(t.Context(), call.Job{CallID: mine, Epoch: 2})
	require.NoError(t, err)
	require.False(t, ok)
	f.exec(t, `update calls set due_at = now() where id = $1`, waiting)
	next, ok, err := f.processor.Leases.Turn(t.Context(), call.Job{CallID: mine, Epoch: 2})
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, call.Job{CallID: waiting, Epoch: f.find(t, waiting).Lease.Epoch}, next)
}
