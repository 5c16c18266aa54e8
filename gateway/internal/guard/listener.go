package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/rpc"
)

// Listener refuses requests whose length is ambiguous (framing), and replaces the plain-text responses that net/http's server writes
// itself, to malformed requests and to headers that are too large, by JSON errors. There is no hook for them: net/http writes them
// to the connection before there is a request. To a header that does not arrive in time it writes nothing; Listener writes 408. The
// server also needs Prepare, and its handler Serving.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &jsonErrorConn{Conn: c}, nil
}

// jsonErrorConn knows whether a handler is writing to it, or net/http itself.
type jsonErrorConn struct {
	net.Conn
	serving atomic.Bool
	active  atomic.Bool // net/http has read a request, which serving follows, and not ended its response
	refused bool        // a refusal has been written

	// Of the goroutine that reads:
	framing framing
	err     error // of the next read
}

// Read implements net.Conn.
func (c *jsonErrorConn) Read(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.failed()
	}
	n, err := c.Conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.serving.Load() && c.framing.isWaiting() {
		c.refuse(http.StatusRequestTimeout)
	}
	if accepted, ambiguous := c.framing.feed(b[:n]); ambiguous != nil {
		if n, c.err = accepted, ambiguous; n == 0 {
			return 0, c.failed()
		}
	}
	return n, err
}

// failed returns the error after an ambiguous request, which it refuses. While the request before it is served, net/http reads to
// detect that the client closes, and would take the error for that.
func (c *jsonErrorConn) failed() error {
	if c.framing.state != inHead {
		return c.err // in a body, whose handler responds
	}
	for c.active.Load() {
		if _, err := c.Conn.Read(make([]byte, 1<<10)); err != nil {
			return err
		}
	}
	c.refuse(http.StatusBadRequest)
	return c.err
}

type connKey struct{}

// Prepare makes the server mark connections as active when it has read a request, before it reads on, and as no longer served when
// the response has been written.
func Prepare(s *http.Server) {
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	s.ConnState = func(c net.Conn, state http.ConnState) {
		r, ok := c.(*jsonErrorConn)
		switch {
		case ok && state == http.StateActive:
			r.active.Store(true)
		case ok && state == http.StateIdle:
			r.serving.Store(false)
			r.active.Store(false)
		}
	}
}

// Serving marks the connection of a request as served by next.
func Serving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*jsonErrorConn); ok {
			c.serving.Store(true)
		}
		next.ServeHTTP(w, r)
		runtime.Gosched() // so that responses are written back to back, as requests are in wire
	})
}

const statusAt = len("HTTP/1.1 ")

// Write replaces error responses that no handler wrote.
func (c *jsonErrorConn) Write(b []byte) (int, error) {
	if c.serving.Load() || len(b) <= statusAt || b[statusAt] < '4' {
		return c.Conn.Write(b)
	}
	status := http.StatusBadRequest
	if bytes.HasPrefix(b[statusAt:], []byte("431")) {
		status = http.StatusRequestHeaderFieldsTooLarge
	}
	c.refuse(status)
	return len(b), nil
}

// refuse writes the only response on this connection that no handler writes, and closes the sending side, so that the client
// receives it also if it is still sending.
func (c *jsonErrorConn) refuse(status int) {
	if c.refused {
		return
	}
	c.refused = true
	_ = c.SetWriteDeadline(clock.Deadline(time.Second))
	if _, err := c.Conn.Write(refusal(status)); err == nil { // otherwise the client has left
		_ = c.CloseWrite()
	}
}

// CloseWrite lets net/http close the sending side first, so that the client receives the response and not a reset.
func (c *jsonErrorConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// refusal returns a whole response.
func refusal(to int) []byte {
	status, code, detail := http.StatusBadRequest, "malformed_request", "These bytes are not an HTTP request"
	switch to {
	case http.StatusRequestTimeout:
		status, code, detail = http.StatusRequestTimeout, "request_timeout", record.TooSlowDetail
	case http.StatusRequestHeaderFieldsTooLarge:
		status, code, detail = http.StatusRequestHeaderFieldsTooLarge, "header_too_large", "The header of the request is over 32 kB"
	}
	id := rpc.CleanRequestID("")
	body := fmt.Sprintf(`{"code":%q,"detail":%q,"request_id":%q}`+"\n", code, detail, id)
	h := http.Header{}
	secure(h)
	h.Set(rpc.RequestIDHeader, id)
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("Connection", "close")
	var out bytes.Buffer
	fmt.Fprintf(&out, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	_ = h.Write(&out) // a buffer takes everything
	out.WriteString("\r\n" + body)
	return out.Bytes()
}
