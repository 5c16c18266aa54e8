package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/gateway/internal/record"
)

// speaker is a service that says exactly what it is told to, request by request.
type speaker struct {
	listener net.Listener
	opened   atomic.Int64 // connections
	served   atomic.Int64 // requests
}

// speak makes a service that serves each request with say, and closes the connection when that returns false.
func speak(t *testing.T, say func(w io.Writer, r *http.Request, nth int64) bool) (*Upstream, *speaker) {
	t.Helper()
	s := &speaker{}
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
			s.opened.Add(1)
			go func() {
				defer func() { _ = c.Close() }()
				for in := bufio.NewReader(c); ; {
					r, err := http.ReadRequest(in)
					if err != nil || !say(c, r, s.served.Add(1)) {
						return
					}
				}
			}()
		}
	}()
	return upstream(t, "http://"+s.listener.Addr().String()), s
}

func ask(u *Upstream, method, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	u.Quick(10*time.Second).ServeHTTP(w, httptest.NewRequest(method, "/calls?x=a%20b", strings.NewReader(body)))
	return w
}

func TestWhatAServiceMaySay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, says string
		hangsUp      bool
		status       int
		body         string
		again        bool // whether the connection is used again
	}{
		"a length":            {says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", status: 200, body: "hello", again: true},
		"no body":             {says: "HTTP/1.1 204 No Content\r\n\r\n", status: 204, again: true},
		"not modified":        {says: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", status: 304, again: true},
		"the head alone":      {method: http.MethodHead, says: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", status: 200, again: true},
		"chunks":              {says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", status: 200, body: "hello", again: true},
		"hints before":        {says: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok", again: true},
		"that it closes":      {says: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok"},
		"the old protocol":    {says: "HTTP/1.0 200 OK\r\n\r\nuntil the end", hangsUp: true, status: 200, body: "until the end"},
		"more than announced": {says: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", status: 200, body: "ok"},
		"another protocol":    {says: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", status: 502},
		"no end of a header":  {says: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxAnswerHeader), status: 502},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, s := speak(t, func(w io.Writer, _ *http.Request, _ int64) bool {
				_, _ = io.WriteString(w, c.says)
				return !c.hangsUp
			})
			for range 3 {
				w := ask(u, c.method, "")
				require.Equal(t, c.status, w.Code, w.Body)
				if c.status < http.StatusBadRequest {
					require.Equal(t, c.body, w.Body.String())
				}
				require.Empty(t, w.Header().Get("Connection"))
				require.Empty(t, w.Header().Get("Upgrade"))
			}
			if c.again {
				require.EqualValues(t, 1, s.opened.Load())
			} else {
				require.GreaterOrEqual(t, s.opened.Load(), int64(3))
			}
		})
	}
}

func TestAnAnswerThatIsTooShortIsCut(t *testing.T) {
	t.Parallel()
	u, _ := speak(t, func(w io.Writer, _ *http.Request, _ int64) bool {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
		return false
	})
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { ask(u, http.MethodGet, "") })
	require.Empty(t, u.conns.idle)
	require.Empty(t, u.quick.taken)
}

// A service that closes connections nobody uses, as when it is released anew, fails nothing: not even what may happen only once.
func TestAConnectionThatTheServiceHasClosed(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		closed := make(chan struct{}, 1)
		u, s := speak(t, func(w io.Writer, r *http.Request, nth int64) bool {
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
		w := ask(u, method, body)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		<-closed
		require.Eventually(t, u.conns.idle[0].hungUp, 5*time.Second, time.Millisecond, "what closes a connection takes a moment to arrive")
		w = ask(u, method, body)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		require.Equal(t, body, w.Body.String())
		require.EqualValues(t, 2, s.opened.Load())
		require.EqualValues(t, 2, s.served.Load(), "nothing was sent twice")
	}
}

// What a service says without being asked is no answer to who comes next.
func TestAnAnswerToNothing(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		answered := make(chan struct{})
		u, s := speak(t, func(w io.Writer, _ *http.Request, nth int64) bool {
			_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", nth)
			if nth == 1 {
				<-answered
				_, _ = io.WriteString(w, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
			}
			return true
		})
		require.Equal(t, "1", ask(u, method, "").Body.String())
		close(answered)
		require.Eventually(t, u.conns.idle[0].hungUp, 5*time.Second, time.Millisecond)
		require.Equal(t, "2", ask(u, method, "").Body.String())
		require.EqualValues(t, 2, s.opened.Load())
	}
}

func quick(u *Upstream, timeout time.Duration, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	u.Quick(timeout).ServeHTTP(w, r)
	return w
}

// The time of a request is not that of the next one on the connection.
func TestAConnectionHasNoTimeOfBefore(t *testing.T) {
	t.Parallel()
	u, s := speak(t, func(w io.Writer, r *http.Request, _ int64) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
		return true
	})
	const short = 100 * time.Millisecond
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete, http.MethodPost} {
		var body io.Reader
		if method == http.MethodPost {
			body = strings.NewReader("{}")
		}
		w := quick(u, short, httptest.NewRequest(method, "/calls", body))
		require.Equal(t, http.StatusNoContent, w.Code, "%s: %s", method, w.Body)
		<-time.After(short + look)
	}
	require.EqualValues(t, 1, s.opened.Load())
}

// What takes too long, or may happen only once, is not sent again, and not for who has left.
func TestWhatIsNotSentAgain(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	left, leave := context.WithCancel(t.Context())
	leave()
	for name, c := range map[string]struct {
		request *http.Request
		hangs   bool // instead of hanging up
		status  int
		served  int64
	}{
		"a GET that takes too long": {httptest.NewRequest(http.MethodGet, "/", nil), true, http.StatusGatewayTimeout, 1},
		"a POST":                    {httptest.NewRequest(http.MethodPost, "/", nil), false, http.StatusServiceUnavailable, 1},
		"a POST with a body":        {httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")), false, http.StatusServiceUnavailable, 1},
		"a POST with an empty one":  {httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader(""))), false, http.StatusServiceUnavailable, 1},
		"a client that has left":    {httptest.NewRequest(http.MethodPost, "/", nil).WithContext(left), false, record.StatusGone, 0},
		"a GET, for comparison":     {httptest.NewRequest(http.MethodGet, "/", nil), false, http.StatusServiceUnavailable, 2},
	} {
		t.Run(name, func(t *testing.T) {
			u, s := speak(t, func(w io.Writer, r *http.Request, nth int64) bool {
				_, _ = io.Copy(io.Discard, r.Body)
				if nth == 1 {
					_, _ = io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
					return true
				}
				if c.hangs {
					<-stop
				}
				return false
			})
			require.Equal(t, http.StatusNoContent, ask(u, http.MethodGet, "").Code)
			w := quick(u, 300*time.Millisecond, c.request)
			require.Equal(t, c.status, w.Code, w.Body)
			require.Equal(t, c.served, s.served.Load()-1)
		})
	}
}

// A service that hangs is left alone, whatever it is asked.
func TestPOSTsThatHangOpenTheCircuit(t *testing.T) {
	t.Parallel()
	u := hanging(t)
	for range circuitFailures {
		w := quick(u, time.Millisecond, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")))
		require.Equal(t, http.StatusGatewayTimeout, w.Code)
	}
	w := quick(u, time.Millisecond, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")))
	require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body)
}

func TestAnIdleConnectionHasNotHungUp(t *testing.T) {
	t.Parallel()
	u, s := speak(t, func(w io.Writer, _ *http.Request, _ int64) bool {
		_, _ = io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
		return true
	})
	for range 3 {
		require.Equal(t, http.StatusNoContent, ask(u, http.MethodDelete, "").Code)
		_ = u.conns.idle[0].SetReadDeadline(time.Unix(1, 0)) // that of the request before is over
	}
	require.EqualValues(t, 1, s.opened.Load())
}

// A service that refuses a body may hang up before it has read it: its answer arrives.
func TestAnAnswerBeforeTheBodyIsRead(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1))
			_, _ = io.WriteString(c, "HTTP/1.1 422 Unprocessable Content\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
			_ = c.(*net.TCPConn).CloseWrite()
		}
	}()
	u := upstream(t, "http://"+listener.Addr().String())
	w := ask(u, http.MethodPost, strings.Repeat("x", 1<<20))
	require.Equal(t, http.StatusUnprocessableEntity, w.Code, w.Body)
}

// The service learns that the client has left, and the place is free again.
func TestAClientThatLeavesAQuickRequest(t *testing.T) {
	t.Parallel()
	entered, left := make(chan struct{}), make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	}))
	t.Cleanup(service.Close)
	u := upstream(t, service.URL)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		u.Quick(time.Minute).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/calls", nil).WithContext(ctx))
	}()
	<-entered
	leave()
	<-left
	<-done
	require.Empty(t, u.quick.taken)
	require.Empty(t, u.conns.idle)
}

func TestAnAnswerThatTakesLongerThanALook(t *testing.T) {
	t.Parallel()
	u, _ := speak(t, func(w io.Writer, _ *http.Request, _ int64) bool {
		for _, piece := range []string{"HTTP/1.1 200 OK\r\n", "Content-Length: 4\r\n\r\nno", "w."} {
			<-time.After(look + look/4)
			_, _ = io.WriteString(w, piece)
		}
		return true
	})
	for range 2 {
		w := ask(u, http.MethodGet, "")
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		require.Equal(t, "now.", w.Body.String())
	}
}

// An answer may begin in time and not end in time: the client is not kept waiting.
func TestABodyThatTakesTooLongIsCut(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	u, _ := speak(t, func(w io.Writer, _ *http.Request, _ int64) bool {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nno")
		<-stop
		return false
	})
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		u.Quick(20*time.Millisecond).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/calls", nil))
	})
	require.Empty(t, u.quick.taken)
}

func TestConnectionsThatNobodyUsesAreClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newConns(&url.URL{Scheme: "http", Host: "service"})
		ended := make(chan time.Duration, 3)
		begin := time.Now()
		for range 3 {
			ours, theirs := net.Pipe()
			c := newConn(ours)
			c.began = time.Now()
			p.put(c)
			go func() {
				_, _ = theirs.Read(make([]byte, 1))
				ended <- time.Since(begin)
			}()
			<-time.After(idleTimeout / 3) // of the bubble
		}
		require.Equal(t, idleTimeout, <-ended)
		require.Equal(t, idleTimeout*4/3, <-ended, "each after its own time")
		require.Equal(t, idleTimeout*5/3, <-ended)
		require.Nil(t, p.take())
	})
}

func TestThePoolIsBounded(t *testing.T) {
	t.Parallel()
	p := newConns(&url.URL{Scheme: "http", Host: "service"})
	for range idleConns + 1 {
		one, _ := net.Pipe()
		p.put(newConn(one))
	}
	require.Len(t, p.idle, idleConns)
	p.close()
	require.Empty(t, p.idle)
	one, _ := net.Pipe()
	p.put(newConn(one)) // of a request that was under way
	require.Empty(t, p.idle)
}

// A service that hangs up in the middle of a body that is in memory has failed; no client has.
func TestAServiceThatHangsUpOnBodiesOpensTheCircuit(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	var opened atomic.Int64
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			opened.Add(1)
			_, _ = c.Read(make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0) // a reset, also of what is still on its way
			_ = c.Close()
		}
	}()
	u := upstream(t, "http://"+listener.Addr().String())
	for range circuitFailures + 1 {
		require.Equal(t, http.StatusServiceUnavailable, ask(u, http.MethodPost, strings.Repeat("x", 16<<20)).Code)
	}
	require.EqualValues(t, circuitFailures, opened.Load())
}

func TestAServiceBehindTLS(t *testing.T) {
	t.Parallel()
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Method+" "+r.Host) }))
	t.Cleanup(service.Close)
	u := upstream(t, service.URL)
	w := ask(u, http.MethodGet, "")
	require.Equal(t, http.StatusServiceUnavailable, w.Code, "nobody has signed its certificate")
	u.transport.TLSClientConfig = service.Client().Transport.(*http.Transport).TLSClientConfig
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPost} {
		w = ask(u, method, "")
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		require.Equal(t, method+" "+u.base.Host, w.Body.String())
	}
}

// The header of a request arrives as it was meant, and nothing that is about another connection.
func TestWhatAServiceIsTold(t *testing.T) {
	t.Parallel()
	heard := make(chan *http.Request, 1)
	u, _ := speak(t, func(w io.Writer, r *http.Request, _ int64) bool {
		heard <- r
		_, _ = io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
		return true
	})
	r := httptest.NewRequest(http.MethodPut, "http://elsewhere/a%2Fb/c?x=1&y=%26;", nil)
	r.Header = http.Header{"Accept": {"a", "b"}, "Te": {"trailers"}, "Keep-Alive": {"1"}, "Proxy-Authorization": {"x"}, "Accept-Encoding": {"gzip"}, "Content-Length": {"7"}}
	w := httptest.NewRecorder()
	u.Quick(time.Minute).ServeHTTP(w, r)
	require.Equal(t, http.StatusNoContent, w.Code)
	got := <-heard
	require.Equal(t, "/a%2Fb/c?x=1&y=%26;", got.RequestURI)
	require.Equal(t, u.base.Host, got.Host)
	require.Zero(t, got.ContentLength)
	require.Equal(t, http.Header{"Accept": {"a", "b"}, "Content-Length": {"0"}}, got.Header)
}
