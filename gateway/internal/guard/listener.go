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

// Listener makes net/http's own refusals, of bytes that are no request and of headers that are too large, answers in the
// shape of all errors. There is no hook for them: net/http writes them to the connection before there is a request. The
// server needs Prepare and its handler Serving.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &refusing{Conn: c}, nil
}

// refusing is a connection of which we know whether a handler's answer is being written.
type refusing struct {
	net.Conn
	serving atomic.Bool
}

type refusingKey struct{}

// Prepare tells connections when the answer of a handler is over.
func Prepare(s *http.Server) {
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, refusingKey{}, c) }
	s.ConnState = func(c net.Conn, state http.ConnState) {
		if r, ok := c.(*refusing); ok && state == http.StateIdle {
			r.serving.Store(false)
		}
	}
}

// Serving notes that what is written from now on is the answer of next.
func Serving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(refusingKey{}).(*refusing); ok {
			c.serving.Store(true)
		}
		next.ServeHTTP(w, r)
		runtime.Gosched() // so that answers are written one right after the other, as proxy does with requests
	})
}

const statusAt = len("HTTP/1.1 ")

// Write replaces what net/http refuses by itself: anything that is not written for a handler.
func (c *refusing) Write(b []byte) (int, error) {
	if c.serving.Load() || len(b) <= statusAt || b[statusAt] < '4' {
		return c.Conn.Write(b)
	}
	if _, err := c.Conn.Write(refusal(bytes.HasPrefix(b[statusAt:], []byte("431")))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// CloseWrite lets net/http end its side first, so that a refusal arrives and no reset instead.
func (c *refusing) CloseWrite() error {
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
