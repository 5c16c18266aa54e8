package guard

import (
	"bytes"
	"fmt"
	"net"
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
)

// Listener makes net/http's own refusals, of bytes that are no request and of headers that are too large, answers in the
// shape of all errors. There is no hook for them: net/http writes them to the connection before there is a request.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return refusing{c}, nil
}

type refusing struct{ net.Conn }

// plain are the headers of net/http's own refusals (errorHeaders in its server.go). No answer of a handler begins so: all
// of them have a Date.
const plain = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

const statusAt = len("HTTP/1.1 ")

func (c refusing) Write(b []byte) (int, error) {
	if len(b) <= statusAt || b[statusAt] < '4' {
		return c.Conn.Write(b)
	}
	end := bytes.IndexByte(b, '\r')
	if end < 0 || !bytes.HasPrefix(b[end:], []byte(plain)) {
		return c.Conn.Write(b)
	}
	if _, err := c.Conn.Write(refusal(bytes.HasPrefix(b[statusAt:], []byte("431")))); err != nil {
		return 0, err
	}
	return len(b), nil
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
