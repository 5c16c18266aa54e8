package run_test

import (
	"cmp"
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/run"
)

// A gateway held its connections to the old replicas for ever: a new one got no requests.
func TestAConnectionIsClosedAfterItsAge(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		cfg := run.DefaultHTTP("127.0.0.1:0")
		cfg.H2C, cfg.MaxConnAge = true, time.Second
		connections := make(chan string, 10_000) // of each request
		server, err := run.HTTP(cfg, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { connections <- r.RemoteAddr }))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- server.Run(ctx) }()
		protocols := &http.Protocols{}
		protocols.SetHTTP1(!h2)
		protocols.SetUnencryptedHTTP2(h2)
		transport := &http.Transport{Protocols: protocols}
		client := http.Client{Transport: transport}
		first := ""
		for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
			res, err := client.Get("http://" + server.Addr())
			require.NoError(t, err, "no request fails")
			require.NoError(t, res.Body.Close())
			connection := <-connections
			if first = cmp.Or(first, connection); connection != first {
				tick.Stop()
				break // the client has connected again
			}
		}
		transport.CloseIdleConnections()
		cancel()
		require.NoError(t, <-done)
	}
}

func TestRequestsDrainForAsLongAsTheSettingSays(t *testing.T) {
	t.Parallel()
	cfg := run.DefaultHTTP("127.0.0.1:0")
	require.Equal(t, run.StopTimeout, server(t, cfg).StopTimeout())
	cfg.Drain = 270 * time.Second
	require.Equal(t, 272*time.Second, server(t, cfg).StopTimeout())
	cfg.Drain = time.Second
	slow := make(chan struct{})
	t.Cleanup(func() { close(slow) })
	s, err := run.HTTP(cfg, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-slow }))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	answered := make(chan error, 1)
	go func() {
		res, err := http.Get("http://" + s.Addr())
		if err == nil {
			_ = res.Body.Close()
		}
		answered <- err
	}()
	select {
	case <-time.After(200 * time.Millisecond):
	case <-answered:
	}
	began := time.Now()
	cancel()
	require.Error(t, <-answered, "its connection was closed")
	require.NoError(t, <-done)
	require.Less(t, time.Since(began), 8*time.Second)
}

func server(t *testing.T, cfg run.HTTPConfig) *run.Server {
	s, err := run.HTTP(cfg, http.NotFoundHandler())
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}
