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

// recorder records what happened, in order.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (d *recorder) record(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *recorder) actor(name string) run.Func {
	return func(ctx context.Context) error {
		d.record("start " + name)
		<-ctx.Done()
		d.record("stop " + name)
		return nil
	}
}

func TestActorsStopInReverseOrderAndDeferredFunctionsRunAfterThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d recorder
		g := run.NewGroup(telemetry.Nop())
		g.Defer("database", func() { d.record("close database") })
		g.Defer("kafka", func() { d.record("close kafka") })
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

func TestTheFirstFailureStopsAllAndNamesItsActor(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	tests := map[string]struct {
		fail run.Func
		text string
	}{
		"an error":                  {func(context.Context) error { return broken }, "b: broken"},
		"a panic":                   {func(context.Context) error { panic("oh no") }, "b: panic: oh no"},
		"a return without an error": {func(context.Context) error { return nil }, "b: returned unexpectedly"},
		"a nil map":                 {func(context.Context) error { var m map[string]int; m["x"]++; return nil }, "b: panic: assignment to entry in nil map"}, //nolint:staticcheck // it must panic
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d recorder
			g := run.NewGroup(telemetry.Nop())
			g.Defer("database", func() { d.record("close") })
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

func TestAFailureWhileStoppingIsReturned(t *testing.T) {
	t.Parallel()
	broken := errors.New("could not flush")
	ctx, cancel := context.WithCancel(t.Context())
	g := run.NewGroup(telemetry.Nop())
	g.Add("flusher", run.Func(func(ctx context.Context) error { <-ctx.Done(); return broken }))
	g.Add("canceled", run.Func(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }))
	cancel()
	err := g.Run(ctx)
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, context.Canceled, "an actor may return ctx.Err() when it is stopped")
}

func TestAnActorThatDoesNotStopInTimeIsAbandoned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d recorder
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

func TestAnActorRunsUntilTheActorsAfterItHaveStopped(t *testing.T) {
	t.Parallel()
	g := run.NewGroup(telemetry.Nop())
	stopping := make(chan struct{})
	used := make(chan error, 1)
	g.Add("database user", run.Func(func(ctx context.Context) error {
		<-stopping
		used <- ctx.Err()
		<-ctx.Done()
		return nil
	}))
	g.Add("last", run.Func(func(ctx context.Context) error {
		<-ctx.Done()
		close(stopping)
		err := <-used
		used <- err
		return nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, g.Run(ctx))
	require.NoError(t, <-used, "the first actor's context had not ended while the last actor stopped")
}

func TestEveryRunsImmediatelyAndAgainAlsoAfterAFailure(t *testing.T) {
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
