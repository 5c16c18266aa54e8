package guard

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const timeout = 50 * time.Millisecond

func dial(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

func TestAStalledRequestBodyTimesOut(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	server := httptest.NewServer(Deadlines(timeout, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		failed <- err
	})))
	defer server.Close()
	conn := dial(t, server)
	_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
	require.NoError(t, err)
	require.ErrorIs(t, <-failed, os.ErrDeadlineExceeded)
	_, err = io.Copy(io.Discard, conn)
	require.NoError(t, err, "the connection is closed")
}

func TestAResponseThatTheClientDoesNotReadTimesOut(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	server := httptest.NewServer(Deadlines(timeout, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/small" {
			return
		}
		for piece := make([]byte, 1<<20); ; {
			if _, err := w.Write(piece); err != nil {
				failed <- err
				return
			}
		}
	})))
	defer server.Close()
	for _, before := range []string{"", "GET /small HTTP/1.1\r\nHost: a\r\n\r\n"} {
		_, err := io.WriteString(dial(t, server), before+"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		require.ErrorIs(t, <-failed, os.ErrDeadlineExceeded)
	}
}

// A service may take longer than the stall timeout, and its deadlines do not affect the next request on the connection.
func TestASlowServiceIsNotAStall(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(Deadlines(timeout, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	})))
	defer server.Close()
	conn := dial(t, server)
	responses := bufio.NewReader(conn)
	for _, path := range []string{"/writes", "/writes-nothing"} {
		_, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
		require.NoError(t, err)
		res, err := http.ReadResponse(responses, nil)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
}
