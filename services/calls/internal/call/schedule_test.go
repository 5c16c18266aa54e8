package call_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// work runs the queue's jobs in its order with some workers until there are none, and returns the agents of the calls in the order of their
// completion.
func (f *fixture) work(t *testing.T, workers int) (agents []string) {
	t.Helper()
	var all errgroup.Group
	for range workers {
		all.Go(func() error {
			for {
				var id string
				var epoch int64
				err := f.db.Conn(t.Context()).QueryRow(t.Context(), `
					delete from river_job where id = (select id from river_job where state = 'available' order by priority, scheduled_at, id limit 1 for update skip locked)
					returning args->>'id', (args->>'epoch')::bigint`).Scan(&id, &epoch)
				if pg.NoRows(err) {
					return nil
				}
				if err == nil {
					err = f.processor.Transcribe(t.Context(), id, epoch)
				}
				if err != nil {
					return err
				}
			}
		})
	}
	require.NoError(t, all.Wait())
	return pgtest.Column[string](t, f.db, `select c.agent_id::text from outbox o join calls c on c.id = o.key::uuid where o.type = 'transcription.completed' order by o.id`)
}

// One call once waited for 195 s behind another agent's 300.
func TestAgentsAreServedInRoundRobinOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ busy, other, workers, tolerance int }{{30, 5, 1, 1}, {250, 250, 4, 50}} {
		f := open(t)
		f.processor.RenewEvery = time.Hour
		busy, other := event.NewID(), event.NewID()
		queue := func(agent string, n int) {
			for range n {
				c, events := call.New(event.NewID(), agent, call.Details{CallType: "default", CallTag: "connected", RecordedAt: noon()}, nil, call.Recording{Key: "x"}, noon())
				require.NoError(t, f.calls.Create(t.Context(), c, events...))
			}
		}
		queue(busy, c.busy)
		queue(other, c.other)
		served := f.work(t, c.workers)
		require.Len(t, served, c.busy+c.other)
		ended := map[string]int{}
		for _, agent := range served {
			ended[agent]++
			if ended[other] < c.other && ended[busy] < c.busy {
				require.InDelta(t, ended[busy], ended[other], float64(c.tolerance), "of two agents with waiting calls none is ahead")
			}
		}
		require.Equal(t, []int{0}, pgtest.Column[int](t, f.db, `select count(*)::int from calls where status <> 'completed'`))
		require.Equal(t, int64(2*(c.busy+c.other)), f.provider.transcribed.Load(), "each part once")
		require.Equal(t, int64(c.busy+c.other), f.provider.analysed.Load())
	}
}

// A call that waits for its next attempt is not begun before that, even if its agent was served least recently.
func TestACallIsNotScheduledBeforeItIsDue(t *testing.T) {
	t.Parallel()
	f := open(t)
	waiting, mine := f.create(t), f.create(t)
	_, err := f.calls.Change(t.Context(), waiting, func(c *call.Call) ([]event.Event, error) { return c.Begin(1, worker, ttl, noon()) })
	require.NoError(t, err)
	_, err = f.calls.Change(t.Context(), waiting, func(c *call.Call) ([]event.Event, error) {
		return c.Fail(c.Lease.Epoch, errDown, f.processor.Waits, 0, noon())
	})
	require.NoError(t, err)
	_, err = f.calls.Change(t.Context(), mine, func(c *call.Call) ([]event.Event, error) { return nil, c.Requeue(1) })
	require.NoError(t, err)
	f.exec(t, `insert into turns values ($1, now() + interval '1 hour')`, f.find(t, mine).AgentID)
	_, ok, err := f.processor.Leases.FindNext(t.Context(), lease.Ref{ID: mine, Epoch: 2})
	require.NoError(t, err)
	require.False(t, ok)
	f.exec(t, `update calls set due_at = now() where id = $1`, waiting)
	next, ok, err := f.processor.Leases.FindNext(t.Context(), lease.Ref{ID: mine, Epoch: 2})
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, lease.Ref{ID: waiting, Epoch: f.find(t, waiting).Lease.Epoch}, next)
}
