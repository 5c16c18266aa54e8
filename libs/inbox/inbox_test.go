package inbox_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/inbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func start(t *testing.T) (*pg.DB, *inbox.Inbox) {
	t.Helper()
	db := pgtest.Open(t, inbox.Migrations())
	return db, inbox.New(db)
}

func TestAnEventIsNewOnce(t *testing.T) {
	t.Parallel()
	_, in := start(t)
	a, b, c := event.NewID(), event.NewID(), event.NewID()
	undone := errors.New("changed my mind")
	err := in.InTx(t.Context(), func(ctx context.Context) error {
		newIDs, err := in.Mark(ctx, []string{a})
		require.NoError(t, err)
		require.Equal(t, map[string]bool{a: true}, newIDs)
		return undone
	})
	require.ErrorIs(t, err, undone)

	newIDs, err := in.Mark(t.Context(), []string{b, a, b})
	require.NoError(t, err)
	require.Equal(t, map[string]bool{a: true, b: true}, newIDs, "a rolled-back id is new again, and a repeated id counts once")
	newIDs, err = in.Mark(t.Context(), []string{a, b, c})
	require.NoError(t, err)
	require.Equal(t, map[string]bool{c: true}, newIDs)
	newIDs, err = in.Mark(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, newIDs)
	_, err = in.Mark(t.Context(), []string{"no id"})
	require.ErrorContains(t, err, "record 1 events")
}

func TestOnlyOneOfSeveralConsumersMarksAnEvent(t *testing.T) {
	t.Parallel()
	_, in := start(t)
	var ids, reversed []string
	for range 50 {
		ids = append(ids, event.NewID())
		reversed = append([]string{ids[len(ids)-1]}, reversed...)
	}
	var mu sync.Mutex
	marked := map[string]int{}
	var wg sync.WaitGroup
	for i := range 8 {
		list := ids
		if i%2 == 1 {
			list = reversed
		}
		wg.Go(func() {
			err := in.InTx(t.Context(), func(ctx context.Context) error {
				newIDs, err := in.Mark(ctx, list)
				mu.Lock()
				defer mu.Unlock()
				for id := range newIDs {
					marked[id]++
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Len(t, marked, 50)
	for _, n := range marked {
		require.Equal(t, 1, n)
	}
}

func TestOldIDsAreDeleted(t *testing.T) {
	t.Parallel()
	db, in := start(t)
	old, fresh := event.NewID(), event.NewID()
	_, err := in.Mark(t.Context(), []string{old, fresh})
	require.NoError(t, err)
	age := func(id string, d time.Duration) {
		_, err := db.Pool().Exec(t.Context(), `update inbox set seen_at = now() - $2::interval where event_id = $1`, id, d)
		require.NoError(t, err)
	}
	age(old, inbox.Retention+time.Hour)
	age(fresh, inbox.Retention-time.Hour)
	_, err = db.Pool().Exec(t.Context(), `insert into inbox select gen_random_uuid(), now() - interval '100 days' from generate_series(1, 10001)`) // more than two statements delete
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- in.Sweep(telemetry.Nop()).Run(ctx) }()
	require.Eventually(t, func() bool {
		var n int
		err := db.Pool().QueryRow(t.Context(), `select count(*) from inbox`).Scan(&n)
		return err == nil && n == 1
	}, time.Minute, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
	newIDs, err := in.Mark(t.Context(), []string{old, fresh})
	require.NoError(t, err)
	require.Equal(t, map[string]bool{old: true}, newIDs)
}
