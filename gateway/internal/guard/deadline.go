package guard

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
)

// StallTimeout is how long a client may take to send the next bytes of its body, or to receive the next bytes of a response.
const StallTimeout = 30 * time.Second

// Deadlines ends the exchange with a client that stalls for longer than the timeout. A slow service is not limited here.
func Deadlines(timeout time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &deadlineWriter{ResponseWriter: w, deadlines: deadlines{w: w, timeout: timeout}}
		d := &out.deadlines
		if r.ContentLength != 0 {
			d.extendRead()
			r = r.WithContext(r.Context())
			r.Body = &deadlineBody{ReadCloser: r.Body, deadlines: d}
			defer d.end()
		}
		next.ServeHTTP(out, r)
	})
}

// deadlines sets the deadlines of a connection while one request is served. Errors of setting them are ignored: the read or
// write that follows fails as well.
type deadlines struct {
	w       http.ResponseWriter
	timeout time.Duration
	wrote   time.Time // when the write deadline was set; only the goroutine that serves the request writes

	mu    sync.Mutex
	ended bool // a transport may still read a body after its request has been served
}

func (d *deadlines) extendRead() { d.setRead(clock.System{}.Now().Add(d.timeout)) }

// extendWrite moves the write deadline at most ten times per timeout: moving it costs as much as a small write.
func (d *deadlines) extendWrite() {
	now := clock.System{}.Now()
	if now.Sub(d.wrote) < d.timeout/10 {
		return
	}
	d.wrote = now
	_ = http.NewResponseController(d.w).SetWriteDeadline(now.Add(d.timeout))
}

func (d *deadlines) setRead(deadline time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended {
		_ = http.NewResponseController(d.w).SetReadDeadline(deadline)
	}
}

func (d *deadlines) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
}

type deadlineBody struct {
	io.ReadCloser
	deadlines *deadlines
}

func (b *deadlineBody) Read(p []byte) (int, error) {
	b.deadlines.extendRead()
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		// From here on net/http reads in the background to detect that the client closes, which has no timeout.
		b.deadlines.setRead(time.Time{})
	}
	return n, err
}

type deadlineWriter struct {
	http.ResponseWriter
	deadlines deadlines
}

func (w *deadlineWriter) WriteHeader(status int) {
	w.deadlines.extendWrite()
	w.ResponseWriter.WriteHeader(status)
}

func (w *deadlineWriter) Write(b []byte) (int, error) {
	w.deadlines.extendWrite()
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *deadlineWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
