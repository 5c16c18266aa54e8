package script_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/test/fake/script"
)

func TestStepsAreUsedUpInOrderAndThenTheFakeAnswers(t *testing.T) {
	t.Parallel()
	var q script.Queue
	url := serve(t, &q)
	q.Script("a", say("first"), script.Pass)
	q.Script("b", say("only b"))
	q.Script("a", say("third"))
	for _, want := range []string{"first", "itself", "third", "only b", "itself"} {
		require.Equal(t, want, get(t, url))
	}
}

func TestAlwaysAppliesUntilItIsReset(t *testing.T) {
	t.Parallel()
	var q script.Queue
	url := serve(t, &q)
	q.Always("b", say("always b"))
	q.Script("a", say("once"))
	for _, want := range []string{"once", "always b", "always b"} {
		require.Equal(t, want, get(t, url))
	}
	q.Always("b", script.Pass)
	require.Equal(t, "itself", get(t, url))
}

func TestAGateBlocksARequestUntilItIsReleased(t *testing.T) {
	t.Parallel()
	var q script.Queue
	url := serve(t, &q)
	gate := q.Block("a")
	answered := make(chan string, 1)
	go func() { answered <- get(t, url) }()
	<-gate.Arrived()
	gate.Wait(t)
	require.Empty(t, answered)
	gate.Release()
	gate.Release()
	require.Equal(t, "itself", <-answered)
}

func TestAGateSendsNoResponseAfterTheClientDisconnects(t *testing.T) {
	t.Parallel()
	var q script.Queue
	url := serve(t, &q)
	gate, gone := script.NewGate(), make(chan struct{})
	q.Script("a", func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		defer close(gone)
		gate.Step(w, r, func(http.ResponseWriter, *http.Request) { t.Error("answered") })
	})
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- fetch(ctx, url) }()
	gate.Wait(t)
	leave()
	require.ErrorIs(t, <-left, context.Canceled)
	<-gone
	require.Equal(t, "itself", get(t, url))
}

func TestThenWaitsBeforeTheSecondStep(t *testing.T) {
	t.Parallel()
	var q script.Queue
	url := serve(t, &q)
	began := clock.System{}.Now()
	q.Script("a", script.Then(script.Slow(20*time.Millisecond), say("late")))
	require.Equal(t, "late", get(t, url))
	require.GreaterOrEqual(t, clock.System{}.Now().Sub(began), 20*time.Millisecond)
}

func TestLogWakesThoseWhoWait(t *testing.T) {
	t.Parallel()
	var l script.Log[int]
	got := make(chan []int, 1)
	go func() {
		items, err := l.Wait(t.Context(), func(items []int) bool { return len(items) == 3 })
		if err == nil {
			got <- items
		}
		close(got)
	}()
	l.Add(1)
	l.Add(2, 3)
	require.Equal(t, []int{1, 2, 3}, <-got)
	require.Equal(t, []int{1, 2, 3}, l.All())
}

func TestLogStopsWaitingWithItsContext(t *testing.T) {
	t.Parallel()
	var l script.Log[int]
	l.Add(7)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	items, err := l.Wait(ctx, func([]int) bool { return false })
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []int{7}, items)
}

func serve(t *testing.T, q *script.Queue) string {
	return script.Start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q.Serve(w, r, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "itself") }, "a", "b")
	}))
}

func say(text string) script.Step {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) { _, _ = io.WriteString(w, text) }
}

// get is also called outside the test's goroutine, so it must not end the test.
func get(t *testing.T, url string) string {
	r, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	return string(body)
}

func fetch(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	return response.Body.Close()
}
