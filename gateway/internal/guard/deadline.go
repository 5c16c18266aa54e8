package guard

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
)

// Pace is how slow a client may be, in each direction. While the gateway waits for it to send or to receive, Bytes must pass in
// each Window. A client that stalls fails this too. The time in which the gateway waits for a service does not count.
type Pace struct {
	Window time.Duration
	Bytes  int64
}

// StallTimeout is the default of Pace.Window.
const StallTimeout = 30 * time.Second

// Deadlines ends the exchange with a client that is slower than the pace. A read of its body then fails with
// os.ErrDeadlineExceeded, and the context of the request does not end, so that the client still gets an error response.
func Deadlines(pace Pace, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &deadlineWriter{ResponseWriter: w, allowance: allowance{pace: pace}}
		if r.ContentLength != 0 {
			body := &deadlineBody{ReadCloser: r.Body, allowance: allowance{pace: pace}, server: w}
			body.setDeadline(clock.Deadline(pace.Window))
			defer body.end()
			ctx, stop := body.detach(r.Context())
			defer stop()
			r = r.WithContext(ctx)
			r.Body = body
		}
		next.ServeHTTP(out, r)
	})
}

// allowance is how long one direction of an exchange may still wait for the client.
type allowance struct {
	pace   Pace
	waited time.Duration // in the current window, which ends when pace.Bytes have passed
	passed int64         // in the current window
}

// left returns for how long the next read or write may wait.
func (a *allowance) left() time.Duration { return a.pace.Window - a.waited }

func (a *allowance) add(bytes int, waited time.Duration) {
	a.waited += waited
	if a.passed += int64(bytes); a.passed >= a.pace.Bytes {
		a.waited, a.passed = 0, 0
	}
}

// deadlineBody is the body of a request with a deadline for each read. A transport may still read it after the request has been
// served.
type deadlineBody struct {
	io.ReadCloser
	allowance // only used by the goroutine that reads
	server    http.ResponseWriter
	failed    func() // called when a read has failed, before it returns

	mu       sync.Mutex
	deadline time.Time // zero for none
	ended    bool
}

// setDeadline sets the read deadline of the connection. Its error is ignored: the read that follows fails as well.
func (b *deadlineBody) setDeadline(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		b.deadline = t
		_ = http.NewResponseController(b.server).SetReadDeadline(t)
	}
}

func (b *deadlineBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
}

func (b *deadlineBody) isExpired() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.deadline.IsZero() && clock.Left(b.deadline) <= 0
}

// detach returns a context that ends with that of the request, except for an expired read deadline: net/http cannot tell that from
// a client that has closed its connection, and ends the context for both.
func (b *deadlineBody) detach(request context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(request))
	follow := func() {
		if request.Err() != nil && !b.isExpired() {
			cancel()
		}
	}
	// AfterFunc runs concurrently with the read that ends the context. When that read returns, the context must have ended, too.
	b.failed = follow
	stop := context.AfterFunc(request, follow)
	return ctx, func() {
		stop()
		cancel()
	}
}

func (b *deadlineBody) Read(p []byte) (int, error) {
	left := b.left()
	deadline := clock.Deadline(left)
	b.setDeadline(deadline)
	n, err := b.ReadCloser.Read(p)
	b.add(n, left-clock.Left(deadline))
	switch {
	case errors.Is(err, io.EOF):
		// From here on net/http reads in the background to detect that the client closes, which has no timeout.
		b.setDeadline(time.Time{})
	case err != nil:
		b.failed()
	}
	return n, err
}

// deadlineWriter is a response with a deadline for each write.
type deadlineWriter struct {
	http.ResponseWriter
	allowance
	deadline time.Time
}

// wait runs a write of that many bytes. The deadline moves at most ten times per window: moving it costs as much as a small write.
func (w *deadlineWriter) wait(write func() (int, error)) (int, error) {
	left := w.left()
	deadline := clock.Deadline(left)
	if deadline.Sub(w.deadline) > w.pace.Window/10 {
		w.deadline = deadline
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(deadline) // otherwise the write fails
	}
	n, err := write()
	w.add(n, left-clock.Left(deadline))
	return n, err
}

// WriteHeader implements http.ResponseWriter.
func (w *deadlineWriter) WriteHeader(status int) {
	_, _ = w.wait(func() (int, error) {
		w.ResponseWriter.WriteHeader(status)
		return 0, nil
	})
}

// Write implements http.ResponseWriter.
func (w *deadlineWriter) Write(b []byte) (int, error) {
	return w.wait(func() (int, error) { return w.ResponseWriter.Write(b) })
}

// FlushError is called by http.ResponseController.
func (w *deadlineWriter) FlushError() error {
	_, err := w.wait(func() (int, error) { return 0, http.NewResponseController(w.ResponseWriter).Flush() })
	return err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *deadlineWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
