package load_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/bench/internal/load"
)

func serve(t *testing.T, handler http.HandlerFunc) load.Target {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return load.Target{URL: server.URL + "/calls/1", Token: "secret"}
}

func TestSteadySendsAllRequests(t *testing.T) {
	t.Parallel()
	var got atomic.Int64
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/calls/1" && r.Header.Get("Authorization") == "Bearer secret" {
			got.Add(1)
		}
		_, _ = w.Write([]byte(strings.Repeat("x", 1500)))
	})
	p99, err := load.Steady(t.Context(), target, 2, 500, time.Second)
	require.NoError(t, err)
	require.Positive(t, p99)
	require.EqualValues(t, 500, got.Load())
}

// With one connection, the requests that are due during the stall wait, and their times start when they are due.
func TestSteadyCountsTheRequestsThatWaitDuringAStall(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	var first atomic.Bool
	target := serve(t, func(http.ResponseWriter, *http.Request) {
		if first.CompareAndSwap(false, true) {
			time.Sleep(stall)
		}
	})
	p99, err := load.Steady(t.Context(), target, 1, 100, time.Second)
	require.NoError(t, err)
	require.Greater(t, p99, stall/2, "a closed loop would have measured one slow response in a hundred")
}

func TestSteadyFails(t *testing.T) {
	t.Parallel()
	refusing := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	_, err := load.Steady(t.Context(), refusing, 2, 100, time.Second)
	require.ErrorContains(t, err, "429")

	cutting := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, err = load.Steady(t.Context(), cutting, 2, 100, time.Second)
	require.ErrorContains(t, err, "read a response")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = load.Steady(ctx, serve(t, func(http.ResponseWriter, *http.Request) {}), 2, 100, time.Second)
	require.ErrorIs(t, err, context.Canceled)
}
