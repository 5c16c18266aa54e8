package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// service sends exactly the bytes of its test, request by request.
type service struct {
	listener net.Listener
	opened   atomic.Int64 // connections
	served   atomic.Int64 // requests
}

// responder responds to a request and returns false to close the connection.
type responder func(w io.Writer, r *http.Request, nth int64) bool

// serve serves each request on a connection with respond.
func (s *service) serve(c net.Conn, respond responder) {
	defer func() { _ = c.Close() }()
	s.opened.Add(1)
	for in := bufio.NewReader(c); ; {
		r, err := http.ReadRequest(in)
		if err != nil || !respond(c, r, s.served.Add(1)) {
			return
		}
	}
}

// newPipedService is newService over pipes: in a bubble of synctest, time passes only while everything waits.
func newPipedService(t *testing.T, respond responder) (*Pool, *service) {
	t.Helper()
	s := &service{}
	p := New(&url.URL{Scheme: "http", Host: "service"}, Options{MaxIdle: 8, IdleTimeout: time.Hour, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go s.serve(theirs, respond)
		return ours, nil
	}})
	t.Cleanup(p.Close)
	return p, s
}

// newService is a service on a socket.
func newService(t *testing.T, respond responder) (*Pool, *service) {
	t.Helper()
	s := &service{}
	var err error
	s.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.listener.Close() })
	go func() {
		for {
			c, err := s.listener.Accept()
			if err != nil {
				return
			}
			go s.serve(c, respond)
		}
	}()
	return newPool(t, s.listener.Addr().String()), s
}

func newPool(t *testing.T, host string) *Pool {
	t.Helper()
	p := New(&url.URL{Scheme: "http", Host: host}, Options{Dial: (&net.Dialer{}).DialContext, MaxIdle: 8, IdleTimeout: time.Hour})
	t.Cleanup(p.Close)
	return p
}

// timeout is the timeout of requests in tests that do not test timeouts.
const timeout = time.Minute

// request makes a request as net/http's server does.
func request(method, body string) *http.Request {
	return httptest.NewRequest(method, "/calls?x=a%20b", strings.NewReader(body))
}

// do sends a request and reads its whole response.
func do(p *Pool, req *http.Request, timeout time.Duration) (*http.Response, string, error) {
	res, err := p.Do(req, time.Now().Add(timeout))
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

func get(t *testing.T, p *Pool, method, body string) string {
	t.Helper()
	_, text, err := do(p, request(method, body), timeout)
	require.NoError(t, err)
	return text
}

func TestResponses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, response string
		closes           bool // the connection, after the response
		status           int  // 0 is an error
		body             string
		reused           bool // whether the connection is
	}{
		"Content-Length":        {response: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", status: 200, body: "hello", reused: true},
		"204":                   {response: "HTTP/1.1 204 No Content\r\n\r\n", status: 204, reused: true},
		"304 with a length":     {response: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", status: 304, reused: true},
		"HEAD":                  {method: http.MethodHead, response: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", status: 200, reused: true},
		"chunked":               {response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", status: 200, body: "hello", reused: true},
		"after early hints":     {response: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok", reused: true},
		"Connection: close":     {response: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok"},
		"HTTP/1.0":              {response: "HTTP/1.0 200 OK\r\n\r\nuntil the end", closes: true, status: 200, body: "until the end"},
		"bytes after the body":  {response: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", status: 200, body: "ok"},
		"switching protocols":   {response: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"},
		"a header without end":  {response: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxResponseHeader)},
		"not HTTP":              {response: "SSH-2.0-OpenSSH_9.2\r\n\r\n"},
		"cut inside the header": {response: "HTTP/1.1 200 OK\r\nContent-Len", closes: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := newService(t, func(w io.Writer, _ *http.Request, _ int64) bool {
				_, _ = io.WriteString(w, c.response)
				return !c.closes
			})
			for range 3 {
				res, body, err := do(p, request(c.method, ""), timeout)
				if c.status == 0 {
					var failed *Error
					require.ErrorAs(t, err, &failed)
					require.True(t, failed.Answered)
					require.Equal(t, 1, failed.Sent)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, c.status, res.StatusCode)
				require.Equal(t, c.body, body)
			}
			if c.reused {
				require.EqualValues(t, 1, s.opened.Load())
			} else {
				require.EqualValues(t, 3, s.opened.Load())
			}
		})
	}
}

func TestATruncatedBodyIsAnErrorAndEndsTheConnection(t *testing.T) {
	t.Parallel()
	p, _ := newService(t, func(w io.Writer, _ *http.Request, _ int64) bool {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
		return false
	})
	_, _, err := do(p, request(http.MethodGet, ""), timeout)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Empty(t, p.idle)
}

func TestABodyThatIsNotReadToItsEndEndsTheConnection(t *testing.T) {
	t.Parallel()
	p, _ := newService(t, func(w io.Writer, _ *http.Request, _ int64) bool {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
		return true
	})
	res, err := p.Do(request(http.MethodGet, ""), time.Now().Add(timeout))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.NoError(t, res.Body.Close(), "closing twice is allowed")
	require.Empty(t, p.idle)
}

// A service that closes idle connections, as it does when it is restarted, fails no request, not even a POST.
func TestAConnectionThatTheServiceHasClosedIsNotReused(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		closed := make(chan struct{}, 1)
		p, s := newService(t, func(w io.Writer, r *http.Request, nth int64) bool {
			body, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			if nth == 1 {
				closed <- struct{}{}
			}
			return nth != 1
		})
		body := ""
		if method == http.MethodPost {
			body = "{}"
		}
		require.Equal(t, body, get(t, p, method, body))
		<-closed
		require.Eventually(t, p.idle[0].isStale, timeout, time.Millisecond, "the FIN takes a moment to arrive")
		require.Equal(t, body, get(t, p, method, body))
		require.EqualValues(t, 2, s.opened.Load())
		require.EqualValues(t, 2, s.served.Load(), "nothing was sent twice")
	}
}

// Bytes that the service sends between requests must not become the response to the next one.
func TestAnUnsolicitedResponseIsDiscarded(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		answered := make(chan struct{})
		p, s := newService(t, func(w io.Writer, _ *http.Request, nth int64) bool {
			_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", nth)
			if nth == 1 {
				<-answered
				_, _ = io.WriteString(w, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
			}
			return true
		})
		require.Equal(t, "1", get(t, p, method, ""))
		close(answered)
		require.Eventually(t, p.idle[0].isStale, timeout, time.Millisecond)
		require.Equal(t, "2", get(t, p, method, ""))
		require.EqualValues(t, 2, s.opened.Load())
	}
}

func TestADeadlineDoesNotOutliveItsRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, s := newPipedService(t, func(w io.Writer, r *http.Request, _ int64) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
			return true
		})
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete, http.MethodPost} {
			body := ""
			if method == http.MethodPost {
				body = "{}"
			}
			_, _, err := do(p, request(method, body), timeout)
			require.NoError(t, err, method)
			<-time.After(timeout + clientCheckInterval)
		}
		require.EqualValues(t, 1, s.opened.Load())
	})
}

func TestAnExpiredReadDeadlineDoesNotMakeAConnectionStale(t *testing.T) {
	t.Parallel()
	p, s := newService(t, func(w io.Writer, _ *http.Request, _ int64) bool {
		_, _ = io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
		return true
	})
	for range 3 {
		get(t, p, http.MethodDelete, "")
		_ = p.idle[0].SetReadDeadline(time.Unix(1, 0))
	}
	require.EqualValues(t, 1, s.opened.Load())
}

func TestOnlyGETAndHEADAreSentTwice(t *testing.T) {
	t.Parallel()
	left, leave := context.WithCancel(t.Context())
	leave()
	for name, c := range map[string]struct {
		request *http.Request
		hangs   bool // instead of closing the connection
		sent    int64
	}{
		"GET":                         {request: request(http.MethodGet, ""), sent: 2},
		"HEAD":                        {request: request(http.MethodHead, ""), sent: 2},
		"GET with a body":             {request: request(http.MethodGet, "{}"), sent: 1},
		"GET that times out":          {request: request(http.MethodGet, ""), hangs: true, sent: 1},
		"POST":                        {request: request(http.MethodPost, ""), sent: 1},
		"POST with a body":            {request: request(http.MethodPost, "{}"), sent: 1},
		"DELETE":                      {request: request(http.MethodDelete, ""), sent: 1},
		"a client that has left":      {request: request(http.MethodGet, "").WithContext(left), sent: 0},
		"a client that left its POST": {request: request(http.MethodPost, "").WithContext(left), sent: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, s := newPipedService(t, func(w io.Writer, r *http.Request, nth int64) bool {
					_, _ = io.Copy(io.Discard, r.Body)
					if nth == 1 {
						_, _ = io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
						return true
					}
					return c.hangs // and waits for the next request
				})
				get(t, p, http.MethodGet, "")
				_, _, err := do(p, c.request, timeout)
				require.Error(t, err)
				require.Equal(t, c.hangs, errors.Is(err, os.ErrDeadlineExceeded))
				require.Equal(t, c.sent, s.served.Load()-1)
				var failed *Error
				if errors.As(err, &failed) {
					require.EqualValues(t, c.sent, failed.Sent)
					require.False(t, failed.Answered)
				} else {
					require.Zero(t, c.sent)
				}
			})
		})
	}
}

func TestAServiceThatCannotBeReachedIsADialError(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	_, _, err = do(newPool(t, listener.Addr().String()), request(http.MethodPost, ""), timeout)
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, "dial", op.Op)
	var sent *Error
	require.NotErrorAs(t, err, &sent)
}

// A service that refuses a body may close the connection before it has read it: its response must still arrive, also when
// writing has taken longer than the check of the client.
func TestAResponseBeforeTheBodyIsRead(t *testing.T) {
	t.Parallel()
	refuse := func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		<-time.After(clientCheckInterval * 3 / 2)
		_, _ = io.WriteString(c, "HTTP/1.1 422 Unprocessable Content\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
	}
	requireRefused := func(t *testing.T, p *Pool) {
		t.Helper()
		res, body, err := do(p, request(http.MethodPost, strings.Repeat("x", 32<<20)), timeout)
		require.NoError(t, err)
		require.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
		require.Equal(t, "{}", body)
		require.Empty(t, p.idle)
	}
	t.Run("and the rest is never read", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := New(&url.URL{Scheme: "http", Host: "service"}, Options{IdleTimeout: time.Hour, Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go refuse(theirs)
				return ours, nil
			}})
			t.Cleanup(p.Close)
			requireRefused(t, p)
		})
	})
	t.Run("and a reset", func(t *testing.T) {
		t.Parallel()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			if c, err := listener.Accept(); err == nil {
				refuse(c)
				_ = c.Close()
			}
		}()
		requireRefused(t, newPool(t, listener.Addr().String()))
	})
	// On a busy machine, seconds can pass between the failed write and the read of the response.
	t.Run("and seconds pass before it is read", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := New(&url.URL{Scheme: "http", Host: "service"}, Options{IdleTimeout: time.Hour, Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go func() {
					<-time.After(earlyResponseTimeout / 2)
					_, _ = io.WriteString(theirs, "HTTP/1.1 422 Unprocessable Content\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
				}()
				return brokenPipe{ours}, nil
			}})
			t.Cleanup(p.Close)
			requireRefused(t, p)
		})
	})
	t.Run("but there is none", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := New(&url.URL{Scheme: "http", Host: "service"}, Options{IdleTimeout: time.Hour, Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, _ := net.Pipe()
				return brokenPipe{ours}, nil
			}})
			t.Cleanup(p.Close)
			begin := time.Now()
			_, _, err := do(p, request(http.MethodPost, strings.Repeat("x", 1<<20)), timeout)
			require.ErrorIs(t, err, syscall.EPIPE)
			require.Equal(t, earlyResponseTimeout, time.Since(begin))
		})
	})
}

// brokenPipe is a connection whose other end reads no more, and may still write.
type brokenPipe struct{ net.Conn }

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestTheServiceNoticesThatTheClientLeft(t *testing.T) {
	t.Parallel()
	entered, left := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	}))
	t.Cleanup(server.Close)
	p := newPool(t, server.Listener.Addr().String())
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, _, err := do(p, request(http.MethodGet, "").WithContext(ctx), timeout)
		done <- err
	}()
	<-entered
	leave()
	<-left
	require.Error(t, <-done)
	require.Empty(t, p.idle)
}

func TestAResponseMayTakeLongerThanTheClientCheck(t *testing.T) {
	t.Parallel()
	p, s := newService(t, func(w io.Writer, _ *http.Request, _ int64) bool {
		for _, piece := range []string{"HTTP/1.1 200 OK\r\n", "Content-Length: 4\r\n\r\nno", "w."} {
			<-time.After(clientCheckInterval * 5 / 4)
			_, _ = io.WriteString(w, piece)
		}
		return true
	})
	for range 2 {
		require.Equal(t, "now.", get(t, p, http.MethodGet, ""))
	}
	require.EqualValues(t, 1, s.opened.Load())
}

func TestTheDeadlineCoversTheResponseBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _ := newPipedService(t, func(w io.Writer, _ *http.Request, _ int64) bool {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nno")
			return true
		})
		begin := time.Now()
		_, body, err := do(p, request(http.MethodGet, ""), timeout)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, timeout, time.Since(begin))
		require.Equal(t, "no", body)
		require.Empty(t, p.idle)
	})
}

func TestIdleConnectionsAreClosedAfterTheirTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(&url.URL{Scheme: "http", Host: "service"}, Options{MaxIdle: 8, IdleTimeout: timeout})
		closed := make(chan time.Duration, 3)
		begin := time.Now()
		for range 3 {
			ours, theirs := net.Pipe()
			p.put(newConn(ours))
			go func() {
				_, _ = theirs.Read(make([]byte, 1))
				closed <- time.Since(begin)
			}()
			<-time.After(timeout / 3) // of the bubble
		}
		require.Equal(t, timeout, <-closed)
		require.Equal(t, timeout*4/3, <-closed, "each after its own timeout")
		require.Equal(t, timeout*5/3, <-closed)
		require.Nil(t, p.take())
	})
}

func TestThePoolIsBounded(t *testing.T) {
	t.Parallel()
	p := newPool(t, "service")
	idle := func() *conn {
		one, _ := net.Pipe()
		return newConn(one)
	}
	for range p.options.MaxIdle + 1 {
		p.put(idle())
	}
	require.Len(t, p.idle, p.options.MaxIdle)
	p.Close()
	require.Empty(t, p.idle)
	p.put(idle()) // of a request that was in flight
	require.Empty(t, p.idle)
}

func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	received := make(chan *http.Request, 1)
	p, s := newService(t, func(w io.Writer, r *http.Request, _ int64) bool {
		received <- r
		_, _ = io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
		return true
	})
	r := httptest.NewRequest(http.MethodPut, "http://elsewhere/a%2Fb/c?x=1&y=%26;", nil)
	r.Header = http.Header{
		"Accept": {"a", "b"}, "Accept-Encoding": {"gzip"}, "Content-Length": {"7"}, "Host": {"elsewhere"},
		"Connection": {"close"}, "Te": {"trailers"}, "Keep-Alive": {"1"}, "Proxy-Authorization": {"x"}, "Transfer-Encoding": {"chunked"},
	}
	_, _, err := do(p, r, timeout)
	require.NoError(t, err)
	got := <-received
	require.Equal(t, "/a%2Fb/c?x=1&y=%26;", got.RequestURI)
	require.Equal(t, s.listener.Addr().String(), got.Host)
	require.Zero(t, got.ContentLength)
	require.Equal(t, http.Header{"Accept": {"a", "b"}, "Accept-Encoding": {"gzip"}, "Content-Length": {"0"}}, got.Header)
}

func TestABodyShorterThanAnnouncedIsNotSent(t *testing.T) {
	t.Parallel()
	p, _ := newService(t, func(w io.Writer, r *http.Request, _ int64) bool {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return false
		}
		_, _ = io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
		return true
	})
	r := request(http.MethodPost, "{}")
	r.ContentLength = 3
	_, _, err := do(p, r, timeout)
	require.ErrorContains(t, err, "2 of 3 bytes")
	require.Empty(t, p.idle)
}
