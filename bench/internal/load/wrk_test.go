package load_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/bench/internal/load"
	"github.com/convoflow/convoflow/bench/internal/process"
)

func TestWrkSendsEachRequestOfAMix(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got[r.Header.Get("Authorization")+" "+r.Host+r.URL.String()]++
	}))
	t.Cleanup(server.Close)
	wrk, err := load.NewWrk(t.TempDir(), 2, process.Any)
	require.NoError(t, err)
	mix, err := wrk.NewMix("clients", []load.Target{{URL: server.URL + "/clients/1", Token: "first"}, {URL: server.URL + "/clients?limit=2", Token: "second"}})
	require.NoError(t, err)
	requests, _, err := wrk.RunMix(t.Context(), mix, time.Second)
	require.NoError(t, err)
	require.Positive(t, requests)

	mu.Lock()
	defer mu.Unlock()
	host := server.Listener.Addr().String()
	require.Len(t, got, 2)
	require.InDelta(t, 1, float64(got["Bearer first "+host+"/clients/1"])/float64(got["Bearer second "+host+"/clients?limit=2"]), 0.5)
}

func TestTheTargetsOfAMixAreOnOneServer(t *testing.T) {
	t.Parallel()
	wrk, err := load.NewWrk(t.TempDir(), 2, process.Any)
	require.NoError(t, err)
	_, err = wrk.NewMix("two", []load.Target{{URL: "http://127.0.0.1:1/a"}, {URL: "http://127.0.0.1:2/a"}})
	require.ErrorContains(t, err, "http://127.0.0.1:2/a is not on the server 127.0.0.1:1")
}
