package guard

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const timeout = time.Minute // of virtual time: the tests run in bubbles of synctest

// pipes is a listener whose connections are pipes.
type pipes struct {
	accepted chan net.Conn
	closed   context.Context // Accept has no argument for it
	end      context.CancelFunc
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed.Done():
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.end()
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// serve starts a server with Deadlines before the handler. It returns a function that connects to it.
func serve(t *testing.T, handler http.HandlerFunc) (dial func() net.Conn) {
	t.Helper()
	p := &pipes{accepted: make(chan net.Conn)}
	p.closed, p.end = context.WithCancel(context.WithoutCancel(t.Context()))
	server := &http.Server{Handler: Deadlines(timeout, handler)}
	go func() { _ = server.Serve(p) }()
	t.Cleanup(func() { _ = server.Close() })
	return func() net.Conn {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = ours.Close() })
		p.accepted <- theirs
		return ours
	}
}

func TestAStalledRequestBodyTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		conn := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			failed <- err
		})()
		begin := time.Now()
		_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
		require.NoError(t, err)
		require.ErrorIs(t, <-failed, os.ErrDeadlineExceeded)
		require.Equal(t, timeout, time.Since(begin))
		_, err = io.Copy(io.Discard, conn)
		require.NoError(t, err, "the connection is closed")
	})
}

func TestAResponseThatTheClientDoesNotReadTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		dial := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/small" {
				return
			}
			for piece := make([]byte, 1<<20); ; {
				if _, err := w.Write(piece); err != nil {
					failed <- err
					return
				}
			}
		})
		for _, small := range []bool{false, true} {
			conn := dial()
			if small {
				_, err := io.WriteString(conn, "GET /small HTTP/1.1\r\nHost: a\r\n\r\n")
				require.NoError(t, err)
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				require.NoError(t, err)
				require.NoError(t, res.Body.Close())
			}
			begin := time.Now()
			_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			require.NoError(t, err)
			require.ErrorIs(t, <-failed, os.ErrDeadlineExceeded)
			require.Equal(t, timeout, time.Since(begin))
		}
	})
}

// A service may take longer than the stall timeout, and its deadlines do not affect the next request on the connection.
func TestASlowServiceIsNotAStall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.Copy(io.Discard, r.Body) // as a Transport does
			select {
			case <-r.Context().Done():
				w.WriteHeader(http.StatusInternalServerError)
			case <-time.After(4 * timeout):
				if r.URL.Path == "/writes" {
					w.WriteHeader(http.StatusOK)
				}
			}
		})()
		responses := bufio.NewReader(conn)
		for _, path := range []string{"/writes", "/writes-nothing"} {
			_, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
			require.NoError(t, err)
			res, err := http.ReadResponse(responses, nil)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, http.StatusOK, res.StatusCode)
		}
	})
}
