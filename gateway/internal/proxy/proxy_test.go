package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/gateway/internal/wire"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// timeout is the timeout of requests in tests that do not test timeouts.
const timeout = time.Minute

// newPipedUpstream is an upstream whose service handles each connection with serve, over pipes: in a bubble of synctest, time
// passes only while everything waits.
func newPipedUpstream(t *testing.T, serve func(c net.Conn)) *Upstream {
	t.Helper()
	u := newUpstream(t, "http://service")
	dial := func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go serve(theirs)
		return ours, nil
	}
	u.transport.DialContext = dial
	u.pool = wire.New(u.base, wire.Options{Dial: dial, IdleTimeout: idleTimeout})
	u.buffered = pooled{u.pool}
	return u
}

// hang reads what the gateway sends and never responds.
func hang(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func newUpstream(t *testing.T, address string) *Upstream {
	t.Helper()
	tel := telemetry.Nop()
	bodies := rpc.NewBudget(64 << 20)
	metrics, err := NewMetrics(tel.Metrics, bodies)
	require.NoError(t, err)
	u, err := New("calls", address, Options{Bodies: bodies, MaxRequests: 4, MaxUploads: 2, MaxStreams: 2}, metrics, tel)
	require.NoError(t, err)
	t.Cleanup(u.Close)
	return u
}

// newRawUpstream is an upstream whose service handles each connection with serve and closes it afterwards.
func newRawUpstream(t *testing.T, serve func(c net.Conn)) *Upstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serve(c)
			_ = c.Close()
		}
	}()
	return newUpstream(t, "http://"+listener.Addr().String())
}

// buffered sends a request through the handler for small bodies.
func buffered(u *Upstream, timeout time.Duration, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	u.Buffered(timeout).ServeHTTP(w, r)
	return w
}

func TestAServiceThatHangsIsATimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requireTimeout := func(h http.Handler, want time.Duration) {
			begin := time.Now()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/calls", nil))
			require.Equal(t, want, time.Since(begin))
			require.Equal(t, http.StatusGatewayTimeout, w.Code)
			require.Contains(t, w.Body.String(), `"code":"timeout"`)
			require.NotEmpty(t, w.Header().Get("Retry-After"))
		}
		u := newPipedUpstream(t, hang)
		requireTimeout(u.Buffered(time.Second), time.Second)
		u.buffered = rebased{u.transport, u.base}
		requireTimeout(u.Buffered(time.Second), time.Second)
		requireTimeout(u.Download(), headerTimeout)
	})
}

// A service whose host does not even refuse connections is down (503), not slow (504).
func TestAServiceThatCannotBeReachedIsUnavailable(t *testing.T) {
	t.Parallel()
	for address, dialTimeout := range map[string]time.Duration{"http://service.invalid:8080": timeout, "http://127.0.0.1:1": time.Nanosecond} {
		u := newUpstream(t, address)
		dialer := net.Dialer{Timeout: dialTimeout}
		u.transport.DialContext = dialer.DialContext
		u.buffered = pooled{wire.New(u.base, wire.Options{Dial: dialer.DialContext, IdleTimeout: idleTimeout})}
		for _, handler := range []http.Handler{u.Buffered(timeout), u.Download()} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/calls", nil))
			require.Equal(t, http.StatusServiceUnavailable, w.Code, address)
			require.Equal(t, "2", w.Header().Get("Retry-After"))
			require.NotContains(t, w.Body.String(), "invalid")
		}
		require.Error(t, u.Ready(t.Context()))
	}
}

func TestAServiceThatHangsIsNotReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, newPipedUpstream(t, hang).Ready(ctx), context.DeadlineExceeded)
	})
}

// The client gets the response, nothing of the service's connection, and one status for each way to fail.
func TestBufferedResponses(t *testing.T) {
	t.Parallel()
	for response, want := range map[string]int{
		"HTTP/1.1 200 OK\r\nConnection: keep-alive, x\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok": http.StatusOK,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n":                        http.StatusBadGateway,
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2<<20):                                                  http.StatusBadGateway,
		"": http.StatusServiceUnavailable,
	} {
		u := newRawUpstream(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, response)
		})
		w := buffered(u, timeout, httptest.NewRequest(http.MethodPost, "/calls", nil))
		require.Equal(t, want, w.Code, "%.40q: %s", response, w.Body)
		for _, name := range []string{"Connection", "Keep-Alive", "Upgrade"} {
			require.Empty(t, w.Header().Get(name))
		}
	}
}

func TestATruncatedResponseIsCut(t *testing.T) {
	t.Parallel()
	u := newRawUpstream(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
	})
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		buffered(u, timeout, httptest.NewRequest(http.MethodGet, "/calls", nil))
	})
	require.Empty(t, u.bufferedSlots.taken)
}

// A client does not wait for the rest of a response whose deadline has passed.
func TestAResponseBodyThatTakesTooLongIsCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newPipedUpstream(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nno")
			hang(c)
		})
		begin := time.Now()
		require.PanicsWithValue(t, http.ErrAbortHandler, func() {
			buffered(u, time.Second, httptest.NewRequest(http.MethodGet, "/calls", nil))
		})
		require.Equal(t, time.Second, time.Since(begin))
		require.Empty(t, u.bufferedSlots.taken)
	})
}

func TestAClientThatLeavesReleasesItsSlot(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}))
	t.Cleanup(service.Close)
	u := newUpstream(t, service.URL)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan *httptest.ResponseRecorder)
	go func() {
		done <- buffered(u, timeout, httptest.NewRequest(http.MethodGet, "/calls", nil).WithContext(ctx))
	}()
	<-entered
	leave()
	require.Equal(t, record.StatusClientClosedRequest, (<-done).Code)
	require.Empty(t, u.bufferedSlots.taken)
}

// A POST that timed out, or whose connection was closed, may have had its effect.
func TestAPOSTIsNotRetried(t *testing.T) {
	t.Parallel()
	for _, body := range []io.Reader{nil, strings.NewReader("{}"), io.MultiReader(strings.NewReader(""))} {
		var served atomic.Int64
		u := newRawUpstream(t, func(c net.Conn) {
			served.Add(1)
			_, _ = c.Read(make([]byte, 4096))
		})
		w := buffered(u, timeout, httptest.NewRequest(http.MethodPost, "/", body))
		require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body)
		require.EqualValues(t, 1, served.Load())
	}
}

// Requests that each take their whole timeout, one after the other, open the breaker too.
func TestPOSTsThatTimeOutOpenTheBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newPipedUpstream(t, hang)
		for range breakerFailures {
			w := buffered(u, 25*time.Second, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")))
			require.Equal(t, http.StatusGatewayTimeout, w.Code)
		}
		w := buffered(u, 25*time.Second, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")))
		require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body)
	})
}

// One request that succeeds shows that the service works.
func TestFailuresBetweenSuccessesDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	u := newRawUpstream(t, func(c net.Conn) {
		if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil && served.Add(1)%2 == 0 {
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\nX-Request-Id: "+req.Header.Get("X-Request-Id")+"\r\n\r\n")
		}
	})
	for n := range 4 * breakerFailures {
		w := buffered(u, timeout, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")))
		require.Equal(t, []int{http.StatusServiceUnavailable, http.StatusNoContent}[n%2], w.Code)
	}
}

// A buffered body cannot fail because of its client: a service that resets the connection has failed.
func TestAResetInTheBodyIsAFailureOfTheService(t *testing.T) {
	t.Parallel()
	u := newRawUpstream(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.(*net.TCPConn).SetLinger(0) // Close sends a reset
	})
	w := buffered(u, timeout, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 16<<20))))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.EqualValues(t, 1, u.breaker.Counts().TotalFailures)
}

// A service that closes its connections in the middle of bodies gets no more of them.
func TestAServiceThatClosesDuringBodiesOpensTheBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var opened atomic.Int64
		u := newPipedUpstream(t, func(c net.Conn) {
			opened.Add(1)
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		})
		for range breakerFailures + 1 {
			w := buffered(u, timeout, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 1<<20))))
			require.Equal(t, http.StatusServiceUnavailable, w.Code)
		}
		require.EqualValues(t, breakerFailures, opened.Load())
	})
}

func TestAServiceBehindTLS(t *testing.T) {
	t.Parallel()
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Method+" "+r.Host) }))
	t.Cleanup(service.Close)
	u := newUpstream(t, service.URL)
	w := buffered(u, timeout, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, http.StatusServiceUnavailable, w.Code, "its certificate is not trusted")
	u.transport.TLSClientConfig = service.Client().Transport.(*http.Transport).TLSClientConfig
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPost} {
		w = buffered(u, timeout, httptest.NewRequest(method, "/", nil))
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		require.Equal(t, method+" "+u.base.Host, w.Body.String())
	}
}
