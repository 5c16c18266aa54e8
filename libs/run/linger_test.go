package run_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/run"
)

const detail = `{"code":"refused"}`

// refuse responds before it has read the body.
func refuse(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnprocessableEntity)
	_, _ = io.WriteString(w, detail)
}

func newLingering(t *testing.T, l run.Linger, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Listener, server.Config.Handler = l.Wrap(server.Listener, handler)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func dial(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn, bufio.NewReader(conn)
}

func requireRefused(t *testing.T, in *bufio.Reader, closes bool) {
	t.Helper()
	res, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
	require.Equal(t, detail, string(body))
	require.Equal(t, closes, res.Close)
}

func chunks(size int) string {
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 64<<10, strings.Repeat("x", 64<<10))
	return strings.Repeat(chunk, size/(64<<10)) + "0\r\n\r\n"
}

func TestAResponseReachesAClientThatSendsItsWholeBodyFirst(t *testing.T) {
	t.Parallel()
	const size = 20 << 20
	address := newLingering(t, run.DefaultLinger(2*size), refuse)
	for name, c := range map[string]struct{ header, body string }{
		"length":                    {fmt.Sprint("Content-Length: ", size), strings.Repeat("x", size)},
		"chunked":                   {"Transfer-Encoding: chunked", chunks(size)},
		"a client that closes":      {fmt.Sprintf("Connection: close\r\nContent-Length: %d", size), strings.Repeat("x", size)},
		"a client that closes soon": {"Connection: close\r\nContent-Length: 100000", strings.Repeat("x", 100_000)},
		"Expect, and sends anyway":  {fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d", size), strings.Repeat("x", size)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, in := dial(t, address)
			_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\n"+c.header+"\r\n\r\n"+c.body)
			require.NoError(t, err)
			requireRefused(t, in, true)
			_, err = in.ReadByte()
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

// net/http itself discards a small body and reuses the connection.
func TestAConnectionWithASmallUnreadBodyIsReused(t *testing.T) {
	t.Parallel()
	conn, in := dial(t, newLingering(t, run.DefaultLinger(1), refuse))
	for range 3 {
		_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 100_000))
		require.NoError(t, err)
		requireRefused(t, in, false)
	}
}

func TestAConnectionWhoseBodyWasReadIsReused(t *testing.T) {
	t.Parallel()
	conn, in := dial(t, newLingering(t, run.DefaultLinger(1), func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		refuse(w, r)
	}))
	for range 2 {
		_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 1_000_000))
		require.NoError(t, err)
		requireRefused(t, in, false)
		_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks(1<<20))
		require.NoError(t, err)
		requireRefused(t, in, false)
	}
}

// The response is sent immediately, also while another goroutine waits for the body, as a Transport does.
func TestAResponseDoesNotWaitForTheBody(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked"} {
		ended := make(chan error, 1)
		conn, in := dial(t, newLingering(t, run.DefaultLinger(1<<20), func(w http.ResponseWriter, r *http.Request) {
			started := make(chan struct{})
			go func() {
				close(started)
				_, err := io.Copy(io.Discard, r.Body)
				ended <- err
			}()
			<-started
			refuse(w, r)
			_ = http.NewResponseController(w).Flush()
		}))
		_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\n"+header+"\r\n\r\n")
		require.NoError(t, err)
		requireRefused(t, in, true)
		require.Error(t, <-ended, "the read ends with the request")
	}
}

// flood sends until the connection fails and returns how many bytes that took.
func flood(conn net.Conn) (sent int64) {
	for piece := make([]byte, 64<<10); ; {
		n, err := conn.Write(piece)
		if sent += int64(n); err != nil {
			return sent
		}
	}
}

const head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n"

func TestLingeringIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	address := newLingering(t, run.Linger{Timeout: time.Hour, IdleTimeout: time.Hour, MaxBytes: 4 << 20, MaxConns: 1}, refuse)
	conn, _ := dial(t, address)
	_, err := io.WriteString(conn, head)
	require.NoError(t, err)
	sent := flood(conn)
	require.GreaterOrEqual(t, sent, int64(4<<20))
	require.Less(t, sent, int64(64<<20), "4 MiB and the buffers of the sockets")
}

func TestLingeringIsBoundedInTime(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]run.Linger{
		"in all":        {Timeout: 10 * time.Millisecond, IdleTimeout: time.Hour, MaxBytes: 1 << 40, MaxConns: 1},
		"between reads": {Timeout: time.Hour, IdleTimeout: 10 * time.Millisecond, MaxBytes: 1 << 40, MaxConns: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, in := dial(t, newLingering(t, l, refuse))
			_, err := io.WriteString(conn, head)
			require.NoError(t, err)
			requireRefused(t, in, true)
			require.Eventually(t, func() bool { // the first write after the close causes a reset, the next one fails
				_, err := conn.Write([]byte("x"))
				return err != nil
			}, time.Minute, 500*time.Millisecond) // each write resets the idle timeout
		})
	}
}

func TestTheNumberOfLingeringConnectionsIsBounded(t *testing.T) {
	t.Parallel()
	const most = 3
	address := newLingering(t, run.Linger{Timeout: time.Hour, IdleTimeout: time.Hour, MaxBytes: 1 << 40, MaxConns: most}, refuse)
	open := func() (net.Conn, *bufio.Reader) {
		conn, in := dial(t, address)
		_, err := io.WriteString(conn, head)
		require.NoError(t, err)
		requireRefused(t, in, true)
		_, err = in.ReadByte()
		require.ErrorIs(t, err, io.EOF, "the server's side is closed: it lingers")
		return conn, in
	}
	var lingering []net.Conn
	for range most {
		conn, _ := open()
		lingering = append(lingering, conn)
	}
	closed := func(conn net.Conn) func() bool {
		return func() bool {
			_, err := conn.Write([]byte("x"))
			return err != nil
		}
	}
	beyond, _ := open()
	require.Eventually(t, closed(beyond), time.Minute, time.Millisecond)
	for _, conn := range lingering {
		_, err := conn.Write(make([]byte, 1<<20))
		require.NoError(t, err, "the others go on")
	}
	require.NoError(t, lingering[0].Close())
	require.Eventually(t, func() bool { // its slot is free again
		conn, _ := open()
		for range 1000 {
			if _, err := conn.Write([]byte("x")); err != nil {
				return false
			}
			<-time.After(time.Millisecond)
		}
		return true
	}, time.Minute, time.Millisecond)
}
