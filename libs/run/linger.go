package run

import (
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Linger is a lingering close, RFC 9112 section 9.6. Some clients, such as phones, send their whole body before they read the
// response. Such a client never sees an early response (401, 413, 422) if the server closes the connection meanwhile: the
// bytes that still arrive cause a TCP reset, which discards the response at the client. A lingering close sends the response,
// closes the write side, reads and discards the rest of the body, and closes the connection when the client does.
//
// net/http itself discards 256 kB and waits 500 ms, which is enough for small bodies only. Linger applies to HTTP/1; in HTTP/2
// a stream can end without its connection.
type Linger struct {
	Timeout     time.Duration // of lingering, per connection
	IdleTimeout time.Duration // between two reads
	MaxBytes    int64         // discarded per connection
	MaxConns    int           // lingering at the same time; any other connection gets net/http's 500 ms
}

// DefaultLinger discards up to maxBytes per connection, for up to a minute: 30 MB at 4 Mbit/s.
func DefaultLinger(maxBytes int64) Linger {
	return Linger{Timeout: time.Minute, IdleTimeout: 10 * time.Second, MaxBytes: maxBytes, MaxConns: 256}
}

// Wrap returns the listener and the handler for an http.Server that lingers. Use both together. The handler must get the
// server's own ResponseWriter.
func (l Linger) Wrap(listener net.Listener, handler http.Handler) (net.Listener, http.Handler) {
	return lingerListener{listener, l, make(chan struct{}, l.MaxConns)}, l.handler(handler)
}

// discardedByServer is how many bytes of an unread body net/http discards to reuse the connection.
const discardedByServer = 256 << 10

// handler detects responses that start before the body has been read. If net/http itself can discard the rest of the body, the
// connection stays open. Otherwise the response has the header Connection: close.
func (l Linger) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 || r.ProtoMajor != 1 {
			next.ServeHTTP(w, r)
			return
		}
		body := &trackedBody{ReadCloser: r.Body}
		body.unread.Store(r.ContentLength)
		if r.ContentLength < 0 {
			body.unread.Store(math.MaxInt64)
		}
		in := r.WithContext(r.Context())
		in.Body = body
		defer func() {
			if body.unread.Load() == 0 || r.Header.Get("Expect") == "" && body.isDiscarded() {
				return
			}
			body.stop(w, l.IdleTimeout)
			if r.Close || r.Header.Get("Expect") != "" || w.Header().Get("Connection") == "close" {
				halfClose(w)
			}
		}()
		next.ServeHTTP(&lingerWriter{w, body}, in)
	})
}

// halfClose makes net/http call CloseWrite after it has written the response. It does so automatically for a body that is too
// large, except when the client asked to close or sent Expect. Hitting the limit of a MaxBytesReader is the only way to
// request it; no byte of the body is read here.
func halfClose(w http.ResponseWriter) {
	_, _ = http.MaxBytesReader(w, io.NopCloser(strings.NewReader("x")), 0).Read(make([]byte, 1))
}

// trackedBody knows how much of a request body is unread.
type trackedBody struct {
	io.ReadCloser
	unread atomic.Int64 // bytes; MaxInt64 until the end of a chunked body
	closed atomic.Bool
	mu     sync.Mutex // held while reading
}

func (b *trackedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.unread.Store(0)
	} else {
		b.unread.Add(-int64(n))
	}
	return n, err
}

// Close does not close the body. net/http does so after it has written the response; earlier, it would first read 256 kB.
func (b *trackedBody) Close() error {
	b.closed.Store(true)
	return nil
}

// isDiscarded reports whether net/http has read the body to its end, which it does before it writes the header if little is unread.
// Then it is already reading in the background to detect that the client closes, and a deadline that ends that read would end the
// context of all later requests on the connection.
func (b *trackedBody) isDiscarded() bool {
	if b.unread.Load() > discardedByServer || !b.mu.TryLock() {
		return false
	}
	defer b.mu.Unlock()
	_, err := b.ReadCloser.Read(nil) // reads nothing from the connection: the length of the body is known
	return errors.Is(err, io.EOF) || errors.Is(err, http.ErrBodyReadAfterClose)
}

// stop ends a read in progress, such as that of a Transport that is still forwarding the body. It then sets the read deadline
// for net/http to discard the rest.
func (b *trackedBody) stop(w http.ResponseWriter, timeout time.Duration) {
	_ = b.Close()
	server := http.NewResponseController(w)
	_ = server.SetReadDeadline(time.Unix(1, 0))
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = server.SetReadDeadline(time.Now().Add(timeout))
}

// lingerWriter announces that the connection closes when the response starts before the body has been read. It also keeps
// net/http from waiting for the body before it sends the response.
type lingerWriter struct {
	http.ResponseWriter
	body *trackedBody // nil once the header is written
}

func (w *lingerWriter) WriteHeader(status int) {
	if w.body != nil && status >= http.StatusOK {
		if w.body.unread.Load() > discardedByServer {
			w.Header().Set("Connection", "close")
		}
		w.body = nil
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *lingerWriter) Write(b []byte) (int, error) {
	if w.body != nil {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *lingerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type lingerListener struct {
	net.Listener
	linger Linger
	slots  chan struct{} // of connections that linger
}

func (l lingerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		return &lingerConn{TCPConn: tcp, listener: l}, err
	}
	return c, err
}

type lingerConn struct {
	*net.TCPConn
	listener lingerListener
}

// CloseWrite is called by net/http when it closes a connection whose client may still be sending. Close follows.
func (c *lingerConn) CloseWrite() error {
	select {
	case c.listener.slots <- struct{}{}:
		defer func() { <-c.listener.slots }()
	default:
		return c.TCPConn.CloseWrite()
	}
	if err := c.TCPConn.CloseWrite(); err != nil {
		return err
	}
	c.discard(c.listener.linger)
	return nil
}

// discard reads until the client closes or a limit is reached.
func (c *lingerConn) discard(l Linger) {
	end := time.Now().Add(l.Timeout)
	for buffer, left := make([]byte, 16<<10), l.MaxBytes; left > 0; {
		deadline := time.Now().Add(l.IdleTimeout)
		if end.Before(deadline) {
			deadline = end
		}
		if c.SetReadDeadline(deadline) != nil {
			return
		}
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		left -= int64(n)
	}
}
