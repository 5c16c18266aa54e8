package guard

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
)

// Limit lets requests with a body of at most maxBody bytes through to next. A body that announces its size is refused at
// once; one that does not fails next's reading with the same TooLarge fault.
func Limit(maxBody int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > maxBody {
			refuse(w, r, tooLarge(maxBody))
			return
		}
		if r.ContentLength != 0 {
			r.Body = limited{http.MaxBytesReader(w, r.Body, maxBody)}
		}
		next.ServeHTTP(w, r)
	})
}

type limited struct{ io.ReadCloser }

func (l limited) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		err = tooLarge(over.Limit)
	}
	return n, err
}

func tooLarge(maxBody int64) error {
	return fault.New(fault.TooLarge, "body_too_large", fmt.Sprintf("The body is over %d bytes", maxBody))
}

// Patience is how long a client may let us wait for the next bytes of its body, or to take the next bytes of an answer.
const Patience = 30 * time.Second

// Cut ends the exchange with a client that stalls for longer than patience. Nobody holds a connection by being slow.
func Cut(patience time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &patientWriter{ResponseWriter: w, conn: conn{w: w, patience: patience}}
		c := &answer.conn
		if r.ContentLength != 0 {
			c.expectRead()
			r = r.WithContext(r.Context())
			r.Body = &body{ReadCloser: r.Body, conn: c}
			defer func() {
				if unread := c.end(); unread && r.Close {
					linger(w)
				}
			}()
		}
		next.ServeHTTP(answer, r)
	})
}

// linger makes net/http wait a moment before it closes a connection on which the client is still sending, so that the
// answer arrives and no reset instead. It does so by itself, except for clients that asked it to close. MaxBytesReader is
// the only way to say it: not a byte of the request is read here.
func linger(w http.ResponseWriter) {
	_, _ = http.MaxBytesReader(w, io.NopCloser(strings.NewReader("x")), 0).Read(make([]byte, 1))
}

// conn sets the deadlines of a connection while one request is served. Errors of setting them do not matter: the reading
// or writing that follows fails by itself.
type conn struct {
	w        http.ResponseWriter
	patience time.Duration
	wrote    time.Time // when the write deadline was set; only the goroutine that serves the request writes

	mu    sync.Mutex
	read  bool // the whole body
	ended bool // a transport may still read a body after its request has been served
}

func (c *conn) expectRead() { c.setRead(clock.System{}.Now().Add(c.patience)) }

// expectWrite moves the deadline when it has become noticeably nearer: it costs as much as a small write.
func (c *conn) expectWrite() {
	now := clock.System{}.Now()
	if now.Sub(c.wrote) < c.patience/10 {
		return
	}
	c.wrote = now
	_ = http.NewResponseController(c.w).SetWriteDeadline(now.Add(c.patience))
}

func (c *conn) setRead(deadline time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		_ = http.NewResponseController(c.w).SetReadDeadline(deadline)
	}
}

func (c *conn) bodyRead() {
	// From here on net/http itself reads, to notice when the client leaves; that may take as long as it likes.
	c.setRead(time.Time{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = true
}

// end is called when the request has been served. It reports whether part of its body was left.
func (c *conn) end() (unread bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	return !c.read
}

type body struct {
	io.ReadCloser
	conn *conn
}

func (b *body) Read(p []byte) (int, error) {
	b.conn.expectRead()
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.conn.bodyRead()
	}
	return n, err
}

type patientWriter struct {
	http.ResponseWriter
	conn conn
}

func (w *patientWriter) WriteHeader(status int) {
	w.conn.expectWrite()
	w.ResponseWriter.WriteHeader(status)
}

func (w *patientWriter) Write(b []byte) (int, error) {
	w.conn.expectWrite()
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
