package guard

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"

	"github.com/convoflow/convoflow/libs/rpc"
)

// Listener replaces the plain-text responses that net/http's server writes itself, to malformed requests and to headers that
// are too large, by JSON errors. There is no hook for them: net/http writes them to the connection before there is a
// request. The server also needs Prepare, and its handler Serving.
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
}

type connKey struct{}

// Prepare makes the server mark connections as no longer served when a response has been written.
func Prepare(s *http.Server) {
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	s.ConnState = func(c net.Conn, state http.ConnState) {
		if r, ok := c.(*jsonErrorConn); ok && state == http.StateIdle {
			r.serving.Store(false)
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
	if _, err := c.Conn.Write(refusal(bytes.HasPrefix(b[statusAt:], []byte("431")))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// CloseWrite lets net/http close the sending side first, so that the client receives the response and not a reset.
func (c *jsonErrorConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func refusal(headerTooLarge bool) []byte {
	status, code, detail := http.StatusBadRequest, "malformed_request", "These bytes are not an HTTP request"
	if headerTooLarge {
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
