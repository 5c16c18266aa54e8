package guard

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = 50 * time.Millisecond

func dial(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

func TestABodyThatStallsIsCut(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	server := httptest.NewServer(Cut(patience, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		failed <- err
	})))
	defer server.Close()
	conn := dial(t, server)
	_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
	require.NoError(t, err)
	var timeout net.Error
	require.True(t, errors.As(<-failed, &timeout) && timeout.Timeout())
	_, err = io.Copy(io.Discard, conn)
	require.NoError(t, err, "the connection ends")
}

func TestAnAnswerThatNobodyTakesIsCut(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	server := httptest.NewServer(Cut(patience, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		var timeout net.Error
		require.True(t, errors.As(<-failed, &timeout) && timeout.Timeout())
	}
}

// The client's patience is not limited: a service may think, and the next request on the connection is a new one.
func TestAnAnswerMayTakeLongerThanABodyMayStall(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(Cut(patience, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.Copy(io.Discard, r.Body) // a transport makes sure that nothing follows
		select {
		case <-r.Context().Done():
			w.WriteHeader(http.StatusInternalServerError)
		case <-time.After(4 * patience):
			if r.URL.Path == "/writes" {
				w.WriteHeader(http.StatusOK)
			}
		}
	})))
	defer server.Close()
	conn := dial(t, server)
	answers := bufio.NewReader(conn)
	for _, path := range []string{"/writes", "/writes-nothing"} {
		_, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
		require.NoError(t, err)
		res, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
}

// Whoever asks for the connection to be closed and sends a body that nobody reads gets the answer and no reset.
func TestARefusalArrivesWhileTheClientSends(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(Cut(Patience, Limit(1, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))))
	defer server.Close()
	for range 20 {
		conn := dial(t, server)
		_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10000000\r\n\r\n"+strings.Repeat("x", 100_000))
		require.NoError(t, err)
		answers := bufio.NewReader(conn)
		res, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		_, err = io.WriteString(conn, "more")
		require.NoError(t, err)
	}
}

func TestABodyUpToTheLimitPasses(t *testing.T) {
	t.Parallel()
	var read int
	limited := Limit(4, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		read = len(raw)
		if err != nil {
			require.ErrorContains(t, err, "body_too_large")
		}
	}))
	for body, status := range map[string]int{"": 200, "four": 200, "five!": 413} {
		w := httptest.NewRecorder()
		limited.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		require.Equal(t, status, w.Code, body)
	}
	unannounced := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader("five!")))
	require.EqualValues(t, -1, unannounced.ContentLength)
	limited.ServeHTTP(httptest.NewRecorder(), unannounced)
	require.Equal(t, 4, read)
}
