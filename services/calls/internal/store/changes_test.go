package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/store"
)

func TestEachChangeOfACallIsInTheJournal(t *testing.T) {
	t.Parallel()
	f := open(t)
	journal, me := store.Changes(f.db), event.NewID()
	head, err := journal.Head(t.Context())
	require.NoError(t, err)
	require.Empty(t, head)
	c, events := create(me, noon())
	require.NoError(t, f.Create(t.Context(), c, events...))
	_, err = f.Change(t.Context(), c.ID, begin)
	require.NoError(t, err)
	_, err = f.Change(t.Context(), c.ID, func(*call.Call) ([]event.Event, error) { return nil, nil }) // nothing that a response shows
	require.NoError(t, err)
	other := f.add(t, event.NewID(), noon(), func(c *call.Call) { c.Version++ })
	require.NoError(t, f.Remove(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) { return c.Delete(noon()), nil }))

	awaitChanges(t, journal, "", 5)
	mine, err := journal.List(t.Context(), call.ChangeFilter{AgentID: me}, "", 10)
	require.NoError(t, err)
	require.Len(t, mine, 3)
	require.Equal(t, []int64{1, 2, 3}, []int64{mine[0].Version, mine[1].Version, mine[2].Version})
	require.Equal(t, call.Transcribing, mine[1].Status)
	require.True(t, mine[2].Deleted)
	rest, err := journal.List(t.Context(), call.ChangeFilter{}, mine[1].Position, 10)
	require.NoError(t, err)
	require.Len(t, rest, 3)
	require.Equal(t, other.ID, rest[0].CallID)
	one, err := journal.List(t.Context(), call.ChangeFilter{CallID: other.ID}, mine[1].Position, 1)
	require.NoError(t, err)
	require.Equal(t, rest[:1], one)

	for position, want := range map[string]bool{mine[0].Position: true, "0-0": false, "x": false, "1-": false, "99999999999999999999-1": false, "-1-1": false} {
		has, err := journal.Has(t.Context(), position)
		require.NoError(t, err)
		require.Equal(t, want, has, position)
	}
	require.NoError(t, journal.Clean(t.Context(), time.Hour))
	require.Equal(t, 5, f.count(t, "changes"))
	require.NoError(t, journal.Clean(t.Context(), -time.Hour))
	require.Zero(t, f.count(t, "changes"))
}

// awaitChanges waits for n changes after a position: transactions of other tests may be older.
func awaitChanges(t *testing.T, journal call.Changes, after string, n int) (found []call.Change) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		found, err = journal.List(t.Context(), call.ChangeFilter{}, after, 10)
		return err == nil && len(found) == n
	}, time.Minute, 10*time.Millisecond)
	return found
}

// A change whose transaction began earlier and commits later must not be passed.
func TestAReaderNeverPassesAChange(t *testing.T) {
	t.Parallel()
	f := open(t)
	journal := store.Changes(f.db)
	slow, fast := f.add(t, event.NewID(), noon(), func(c *call.Call) { c.Version++ }), f.add(t, event.NewID(), noon(), func(c *call.Call) { c.Version++ })
	all := awaitChanges(t, journal, "", 2+2)
	head := all[len(all)-1].Position
	changed, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	commit := sync.OnceFunc(func() { close(ready) })
	t.Cleanup(commit)
	go func() {
		ended <- f.db.InTx(t.Context(), func(ctx context.Context) error {
			_, err := f.Change(ctx, slow.ID, begin)
			close(changed)
			<-ready
			return err
		})
	}()
	<-changed
	_, err := f.Change(t.Context(), fast.ID, begin)
	require.NoError(t, err)
	found, err := journal.List(t.Context(), call.ChangeFilter{}, head, 10)
	require.NoError(t, err)
	require.Empty(t, found, "the earlier one may still come")
	commit()
	require.NoError(t, <-ended)
	awaitChanges(t, journal, head, 2)
}
