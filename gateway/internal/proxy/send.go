package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/fault"
)

// The circuit breaker of a service opens when 5 requests in a row found the service down or timed out, however long they took.
// After 2 s it is half-open: one request, the probe, decides whether it closes again.
const (
	breakerFailures = 5
	breakerOpenFor  = 2 * time.Second
)

func newBreaker(name string) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: name, Timeout: breakerOpenFor,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerFailures },
		IsExcluded:  func(err error) bool { return errors.Is(err, errClient) },
	})
}

// errClient marks a failure that the client caused. The breaker does not count it.
var errClient = errors.New("the client left, or its body was invalid or stalled")

// retryBudget allows one retry per ten requests, and a burst of ten, so that retries do not overload a service further. It
// counts tenths of a retry.
type retryBudget struct{ tenths atomic.Int64 }

const (
	retryCost     = 10
	maxRetryBurst = 10 * retryCost
)

func (b *retryBudget) earn() {
	if b.tenths.Load() < maxRetryBurst {
		b.tenths.Add(1)
	}
}

func (b *retryBudget) spend() bool {
	if b.tenths.Add(-retryCost) < 0 {
		b.tenths.Add(retryCost)
		return false
	}
	return true
}

// client sends a request to the service.
type client interface {
	// do returns when the header of the response has arrived. The deadline is that of its body too; zero is none. p is
	// updated before do returns.
	do(req *http.Request, deadline time.Time, p *progress) (*http.Response, error)
}

// progress is how far a request got.
type progress struct {
	onConnected func()       // called each time there is a connection for the request; may be nil
	sent        atomic.Int64 // times the request had a connection; a client itself retries a GET on a connection that turns out to be closed
	answered    atomic.Bool  // whether a byte of a response arrived
}

func (p *progress) connected() {
	p.sent.Add(1)
	if p.onConnected != nil {
		p.onConnected()
	}
}

// send sends a request to the service unless its breaker is open. It retries once, within the budget, when the service
// cannot have acted on the request or the request is safe.
func (u *Upstream) send(via client, req *http.Request, deadline time.Time) (*http.Response, error) {
	done, err := u.breaker.Allow()
	if err != nil {
		u.metrics.refused.WithLabelValues(u.name, "circuit_open").Inc()
		return nil, unavailable(err)
	}
	u.retries.earn()
	var p progress
	var body *requestBody
	if req.Body != nil && req.Body != http.NoBody {
		body = &requestBody{ReadCloser: req.Body}
		req.Body = body
		if deadline.IsZero() {
			// As the half-open probe, a long upload would block every other request until it finished. A connection counts as
			// success.
			var once sync.Once
			report := done
			done = func(err error) { once.Do(func() { report(err) }) }
			p.onConnected = func() { done(nil) }
		} else {
			body.complete.Store(true) // the body is in memory, so the client cannot make it fail
		}
	}
	res, err := via.do(req, deadline, &p)
	if err != nil && p.sent.Load() < 2 && body.canRetry(req, err) && u.retries.spend() {
		u.metrics.retries.WithLabelValues(u.name).Inc()
		p.answered.Store(false)
		res, err = via.do(req, deadline, &p)
	}
	done(body.serviceError(req, err))
	if err != nil && body != nil {
		if cause := body.failed.Load(); cause != nil {
			return nil, incomplete(*cause)
		}
	}
	if err != nil && p.answered.Load() && req.Context().Err() == nil && !isTimeout(err) {
		err = errInvalidResponse // without the cause, which quotes the response
	}
	return res, err
}

// requestBody records how far a request body was read; nil is no body. Close does nothing: the server closes the body, and
// the Transport would do so before the retry.
type requestBody struct {
	io.ReadCloser
	started, complete atomic.Bool
	failed            atomic.Pointer[error] // of reading
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.started.Store(true)
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.complete.Store(true)
	case err != nil:
		b.failed.Store(&err)
	}
	return n, err
}

func (b *requestBody) Close() error { return nil }

// canRetry reports whether a request that failed may be sent again: with a body when none of it was read, without a body
// when the service was not reached or the method is safe.
func (b *requestBody) canRetry(req *http.Request, err error) bool {
	switch {
	case req.Context().Err() != nil, isTimeout(err):
		return false
	case b != nil:
		return !b.started.Load()
	default:
		return isDial(err) || req.Method == http.MethodGet || req.Method == http.MethodHead
	}
}

// serviceError returns what the breaker counts: errClient when the service did not cause the failure.
func (b *requestBody) serviceError(req *http.Request, err error) error {
	var refused *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused), errors.Is(req.Context().Err(), context.Canceled), b != nil && b.started.Load() && !b.complete.Load():
		return errClient
	default:
		return err
	}
}

// isDial reports whether the service could not be reached at all.
func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// incomplete returns the error for a client whose body could not be read: truncated, malformed or too slow.
func incomplete(err error) error {
	var refused *fault.Error
	if errors.As(err, &refused) {
		return refused // such as body_too_large
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return record.TooSlow(err)
	}
	return fault.Wrap(err, fault.Malformed, "incomplete_body", "The body did not arrive whole: send it again")
}
