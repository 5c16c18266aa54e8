package guard

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
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
	server := &http.Server{Handler: Deadlines(Pace{Window: timeout, Bytes: 60_000}, handler)}
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

// A client that sends a byte now and then never stalls, and holds its place for hours.
func TestABodyThatIsTooSlowTimesOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		piece int           // bytes
		every time.Duration // one piece
		fails bool
	}{
		"a byte now and then": {1, 10 * time.Second, true},
		"just too slow":       {9_000, 10 * time.Second, true},
		"fast enough":         {13_000, 10 * time.Second, false},
		"in two bursts":       {60_000, 50 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const size = 120_000
				failed := make(chan error, 1)
				conn := serve(t, func(w http.ResponseWriter, r *http.Request) {
					_, err := io.Copy(io.Discard, r.Body)
					failed <- err
					if err != nil {
						require.NoError(t, r.Context().Err(), "the client is still there")
						w.WriteHeader(http.StatusRequestTimeout)
					}
				})()
				begin := time.Now()
				_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 120000\r\n\r\n")
				require.NoError(t, err)
				var sending sync.WaitGroup
				defer func() {
					_ = conn.Close()
					sending.Wait()
				}()
				sending.Go(func() {
					for sent := 0; sent < size; sent += c.piece {
						<-time.After(c.every)
						if _, err := conn.Write(make([]byte, min(c.piece, size-sent))); err != nil {
							return
						}
					}
				})
				if !c.fails {
					require.NoError(t, <-failed)
					requireStatus(t, conn, http.StatusOK)
					return
				}
				require.ErrorIs(t, <-failed, os.ErrDeadlineExceeded)
				require.Equal(t, timeout, time.Since(begin), "not later than a client that sends nothing")
				requireStatus(t, conn, http.StatusRequestTimeout)
			})
		})
	}
}

func requireStatus(t *testing.T, conn net.Conn, status int) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, status, res.StatusCode)
}

// A client that closes its connection ends the context, also while its body is read. The context has ended when the read fails, so the
// proxy can tell that from a truncated body.
func TestAClientThatLeavesEndsTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		left := make(chan error)
		conn := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			left <- errors.Join(err, r.Context().Err())
		})()
		_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		err = <-left
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestAResponseThatTheClientReadsTooSlowlyTimesOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		piece int // bytes that the client reads every 10 s
		fails bool
	}{"a byte now and then": {1, true}, "too slow": {9_000, true}, "fast enough": {13_000, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const size = 200_000
				failed := make(chan error, 1)
				conn := serve(t, func(w http.ResponseWriter, _ *http.Request) {
					for range size / 1000 {
						_, err := w.Write(make([]byte, 1000))
						if err == nil {
							err = http.NewResponseController(w).Flush()
						}
						if err != nil {
							failed <- err
							return
						}
					}
					failed <- nil
				})()
				begin := time.Now()
				_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				require.NoError(t, err)
				var reading sync.WaitGroup
				defer func() {
					_ = conn.Close()
					reading.Wait()
				}()
				reading.Go(func() {
					for {
						<-time.After(10 * time.Second)
						if _, err := io.ReadFull(conn, make([]byte, c.piece)); err != nil {
							return
						}
					}
				})
				if !c.fails {
					require.NoError(t, <-failed)
					return
				}
				require.ErrorIs(t, <-failed, os.ErrDeadlineExceeded)
				require.InDelta(t, timeout.Seconds(), time.Since(begin).Seconds(), timeout.Seconds()/5)
			})
		})
	}
}

// connect starts a server behind Listener and connects to it.
func connect(t *testing.T, handler http.Handler) net.Conn {
	t.Helper()
	p := &pipes{accepted: make(chan net.Conn)}
	p.closed, p.end = context.WithCancel(context.WithoutCancel(t.Context()))
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	Prepare(server)
	go func() { _ = server.Serve(Listener(p)) }()
	t.Cleanup(func() { _ = server.Close() })
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = ours.Close() })
	p.accepted <- theirs
	return ours
}

// net/http reads on before it calls the handler, and finds the request that is refused.
func TestARefusalComesAfterTheResponseBeforeIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := Serving(http.NotFoundHandler())
		conn := connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			synctest.Wait() // until net/http has read on
			next.ServeHTTP(w, r)
		}))
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"+ambiguous["both"])
		require.NoError(t, err)
		in := bufio.NewReader(conn)
		for _, status := range []int{http.StatusNotFound, http.StatusBadRequest} {
			res, err := http.ReadResponse(in, nil)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, res.Body)
			require.NoError(t, err)
			require.Equal(t, status, res.StatusCode)
		}
	})
}

// The header of a request has net/http's own timeout, after which net/http writes nothing.
func TestAHeaderThatStallsGets408(t *testing.T) {
	t.Parallel()
	for sent, answered := range map[string]bool{"": false, "GET / HTTP/1.1\r\nHost": true, "GET / HTTP/1.1\r\nHost: a\r\n": true, "G": true} {
		synctest.Test(t, func(t *testing.T) {
			ours := connect(t, Serving(http.NotFoundHandler()))
			_, err := io.WriteString(ours, sent)
			require.NoError(t, err)
			raw, err := io.ReadAll(ours)
			require.NoError(t, err)
			if !answered {
				require.Empty(t, raw)
				return
			}
			res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusRequestTimeout, res.StatusCode)
			require.True(t, res.Close)
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Contains(t, string(body), `"code":"request_timeout"`)
		})
	}
}
