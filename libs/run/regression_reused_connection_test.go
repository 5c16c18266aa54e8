package run_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/run"
)

// A handler that ignored a small body and wrote more than net/http buffers could end the context of the connection, and with it the
// context of every later request on it: a gateway's connection to a service then served errors to everybody. The body was ended by
// a deadline in the past, which was moved again at once. On a busy machine the background read of net/http failed in between.
func TestAnIgnoredBodyDoesNotEndTheContextOfLaterRequests(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(nil)
	listener := &slowDeadlines{Listener: server.Listener}
	server.Listener, server.Config.Handler = run.DefaultLinger(1<<20).Wrap(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Err() != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 64<<10))
		for !listener.reading.Load() { // in the background
			runtime.Gosched()
		}
	}))
	server.Start()
	t.Cleanup(server.Close)
	conn, in := dial(t, server.Listener.Addr().String())
	for range 10 {
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n{\"a\":1}")
		require.NoError(t, err)
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.False(t, res.Close)
	}
}

// slowDeadlines listens for one connection, on which a read in progress ends before a deadline in the past can be moved.
type slowDeadlines struct {
	net.Listener
	reading atomic.Bool
}

func (l *slowDeadlines) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &slowDeadlineConn{c, &l.reading}, err
}

type slowDeadlineConn struct {
	net.Conn
	reading *atomic.Bool
}

func (c *slowDeadlineConn) Read(b []byte) (int, error) {
	c.reading.Store(true)
	defer c.reading.Store(false)
	return c.Conn.Read(b)
}

func (c *slowDeadlineConn) SetReadDeadline(deadline time.Time) error {
	err := c.Conn.SetReadDeadline(deadline)
	for !deadline.IsZero() && deadline.Before(time.Unix(2, 0)) && c.reading.Load() {
		runtime.Gosched()
	}
	return err
}
