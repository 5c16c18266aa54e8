package run_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// diary notes what happened, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) actor(name string) run.Func {
	return func(ctx context.Context) error {
		d.note("start " + name)
		<-ctx.Done()
		d.note("stop " + name)
		return nil
	}
}

func TestActorsStopInReverseAndThingsCloseAfterThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		g := run.NewGroup(telemetry.Nop())
		g.Defer("database", func() { d.note("close database") })
		g.Defer("kafka", func() { d.note("close kafka") })
		for _, name := range []string{"a", "b", "c"} {
			g.Add(name, d.actor(name))
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		synctest.Wait()
		require.ElementsMatch(t, []string{"start a", "start b", "start c"}, d.lines)
		cancel()
		require.NoError(t, <-ended)
		require.Equal(t, []string{"stop c", "stop b", "stop a", "close kafka", "close database"}, d.lines[3:])
		g.Close()
		require.Len(t, d.lines, 8, "nothing is closed twice")
	})
}

func TestTheFirstFailureEndsAllUnderItsName(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	tests := map[string]struct {
		fail run.Func
		text string
	}{
		"an error":    {func(context.Context) error { return broken }, "b: broken"},
		"a panic":     {func(context.Context) error { panic("oh no") }, "b: panic: oh no"},
		"a quiet end": {func(context.Context) error { return nil }, "b: ended by itself"},
		"a nil map":   {func(context.Context) error { var m map[string]int; m["x"]++; return nil }, "b: panic: assignment to entry in nil map"}, //nolint:staticcheck // it must panic
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d diary
			g := run.NewGroup(telemetry.Nop())
			g.Defer("database", func() { d.note("close") })
			g.Add("a", d.actor("a"))
			g.Add("b", tt.fail)
			g.Add("c", d.actor("c"))
			err := g.Run(t.Context())
			require.ErrorContains(t, err, tt.text)
			require.ElementsMatch(t, []string{"start a", "stop a", "start c", "stop c", "close"}, d.lines)
			require.Equal(t, "close", d.lines[4])
			if name == "an error" {
				require.ErrorIs(t, err, broken)
			}
		})
	}
}

func TestAFailureWhileStoppingIsNotLost(t *testing.T) {
	t.Parallel()
	broken := errors.New("could not flush")
	ctx, cancel := context.WithCancel(t.Context())
	g := run.NewGroup(telemetry.Nop())
	g.Add("flusher", run.Func(func(ctx context.Context) error { <-ctx.Done(); return broken }))
	g.Add("polite", run.Func(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }))
	cancel()
	err := g.Run(ctx)
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, context.Canceled, "that is how an actor may say that it was told to stop")
}

func TestAnActorThatDoesNotStopIsLeftBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		release := make(chan struct{})
		g := run.NewGroup(telemetry.Nop())
		g.Add("good", d.actor("good"))
		g.Add("stubborn", run.Func(func(context.Context) error { <-release; return nil }))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begin := time.Now()
		err := g.Run(ctx)
		require.ErrorContains(t, err, "stubborn did not stop within 10s")
		require.Equal(t, run.StopTimeout, time.Since(begin))
		require.Contains(t, d.lines, "stop good", "the others still stop in order")
		close(release)
	})
}

func TestActorsOutliveTheContextUntilTheirTurn(t *testing.T) {
	t.Parallel()
	g := run.NewGroup(telemetry.Nop())
	held := make(chan struct{})
	used := make(chan error, 1)
	g.Add("database user", run.Func(func(ctx context.Context) error {
		<-held
		used <- ctx.Err()
		<-ctx.Done()
		return nil
	}))
	g.Add("last", run.Func(func(ctx context.Context) error {
		<-ctx.Done()
		close(held)
		err := <-used
		used <- err
		return nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, g.Run(ctx))
	require.NoError(t, <-used, "the context of the first was alive while the last stopped")
}

func TestEveryDoesAChoreAtOnceAndAgainAlsoAfterAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour+time.Minute)
		defer cancel()
		err := run.Every(time.Hour, telemetry.Nop(), "sweep", func(context.Context) error {
			at = append(at, time.Since(begin))
			return errors.New("not today")
		}).Run(ctx)
		require.NoError(t, err)
		require.Equal(t, []time.Duration{0, time.Hour, 2 * time.Hour, 3 * time.Hour}, at)
	})
}
