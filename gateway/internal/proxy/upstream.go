package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"

	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/op"
)

// The circuit of a service opens when within 10 s at least 5 requests, and at least half of all, found it down or hanging.
// Then nobody is sent there for 2 s; after that one request finds out whether it is back.
const (
	circuitWindow   = 10 * time.Second
	circuitBucket   = time.Second
	circuitFailures = 5
	circuitOpenFor  = 2 * time.Second
)

func newCircuit(name string) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: name, Interval: circuitWindow, BucketPeriod: circuitBucket, Timeout: circuitOpenFor,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.TotalFailures >= circuitFailures && 2*c.TotalFailures >= c.Requests
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errClient) },
	})
}

// errClient marks what a client did, which says nothing about the service.
var errClient = errors.New("the client left, or sent its body wrongly or too slowly")

// budget lets one request in ten be tried again, and a few in a row: a service that drowns is not drowned by retries. It
// counts in tenths of a retry.
type budget struct{ tenths atomic.Int64 }

const (
	retryCost  = 10
	mostTenths = 10 * retryCost
)

func (b *budget) earn() {
	if b.tenths.Load() < mostTenths {
		b.tenths.Add(1)
	}
}

func (b *budget) spend() bool {
	if b.tenths.Add(-retryCost) < 0 {
		b.tenths.Add(retryCost)
		return false
	}
	return true
}

// link is how requests get to a service.
type link interface {
	// do returns when the header of the answer is there; deadline is that of its body too, and zero for none.
	do(req *http.Request, deadline time.Time, a *attempts) (*http.Response, error)
}

// attempts is what a link says about how far a request got.
type attempts struct {
	onReached func()       // a connection; nil for nothing
	tries     atomic.Int64 // on a connection: a link itself tries a GET again whose idle connection turns out to be dead
	answered  atomic.Bool  // with a byte at least
}

func (a *attempts) reached() {
	a.tries.Add(1)
	if a.onReached != nil {
		a.onReached()
	}
}

// send sends a request to the service, unless its circuit is open. What found nobody there is sent once more, if the
// budget allows and nothing can happen twice.
func (u *Upstream) send(via link, req *http.Request, deadline time.Time) (*http.Response, error) {
	report, err := u.circuit.Allow()
	if err != nil {
		u.numbers.refused.WithLabelValues(u.name, "circuit_open").Inc()
		return nil, unavailable(err)
	}
	u.budget.earn()
	var a attempts
	judge := report
	var sent *sending
	if req.Body != nil && req.Body != http.NoBody {
		sent = &sending{ReadCloser: req.Body}
		req.Body = sent
		if deadline.IsZero() {
			// A long upload as the probe would keep the circuit shut until its end: it has reached the service.
			var judged sync.Once
			judge = func(err error) { judged.Do(func() { report(err) }) }
			a.onReached = func() { judge(nil) }
		} else {
			sent.whole.Store(true) // it is in memory: what becomes of it is not the client's doing
		}
	}
	res, err := via.do(req, deadline, &a)
	if err != nil && a.tries.Load() < 2 && sent.again(req, err) && u.budget.spend() {
		u.numbers.retries.WithLabelValues(u.name).Inc()
		a.answered.Store(false)
		res, err = via.do(req, deadline, &a)
	}
	judge(sent.blame(req, err))
	if err != nil && sent != nil && sent.broken.Load() {
		return nil, incomplete(err)
	}
	if err != nil && a.answered.Load() && req.Context().Err() == nil && !isTimeout(err) {
		err = errAnswer // and not what is wrong with it, which quotes it
	}
	return res, err
}

// sending is the body of a request on its way, nil for none. Closing it does not close the body: whoever serves the request
// does that, and the transport would before the second try.
type sending struct {
	io.ReadCloser
	begun, whole, broken atomic.Bool
}

func (s *sending) Read(p []byte) (int, error) {
	s.begun.Store(true)
	n, err := s.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		s.whole.Store(true)
	case err != nil:
		s.broken.Store(true)
	}
	return n, err
}

func (s *sending) Close() error { return nil }

// again reports whether a request that failed can be sent once more: one whose body has not begun to be sent, and without
// a body one that reached nobody, or that only asks.
func (s *sending) again(req *http.Request, err error) bool {
	switch {
	case req.Context().Err() != nil, isTimeout(err):
		return false
	case s != nil:
		return !s.begun.Load()
	default:
		return isDial(err) || req.Method == http.MethodGet || req.Method == http.MethodHead
	}
}

// blame returns what the failure says about the service: errClient where it says nothing.
func (s *sending) blame(req *http.Request, err error) error {
	var refused *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused), errors.Is(req.Context().Err(), context.Canceled), s != nil && s.begun.Load() && !s.whole.Load():
		return errClient
	default:
		return err
	}
}

// isDial reports whether nobody could be reached at all.
func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// Numbers count what happens between the gateway and the services.
type Numbers struct {
	refused  *prometheus.CounterVec
	retries  *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
}

// NewNumbers makes the metrics and registers them.
func NewNumbers(registry *prometheus.Registry) (*Numbers, error) {
	n := &Numbers{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_gateway_upstream_refused_total", Help: "Requests answered with 503 without asking the service: overloaded, circuit_open.",
		}, []string{"upstream", "reason"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_gateway_upstream_retries_total", Help: "Requests sent to a service once more.",
		}, []string{"upstream"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "convoflow_gateway_upstream_in_flight", Help: "Requests that a service is serving now; kind is quick or streamed.",
		}, []string{"upstream", "kind"}),
	}
	return n, errors.Join(registry.Register(n.refused), registry.Register(n.retries), registry.Register(n.inFlight))
}

// incomplete is what a client gets whose body could not be read: cut, wrongly framed or too slow.
func incomplete(err error) error {
	var refused *fault.Error
	if errors.As(err, &refused) {
		return refused // such as one that is too large
	}
	return fault.Wrap(err, fault.Malformed, "incomplete_body", "The body did not arrive whole: send it again")
}

// places lets as many requests in at the same time as there are places for all routes of a service.
type places struct {
	taken    chan struct{}
	inFlight prometheus.Gauge
	refused  prometheus.Counter
}

func (n *Numbers) places(service, kind string, most int) *places {
	return &places{make(chan struct{}, most), n.inFlight.WithLabelValues(service, kind), n.refused.WithLabelValues(service, "overloaded")}
}

// enter takes a place, or refuses the request at once: who waits here would find a service that drowns even slower. Who is
// in leaves.
func (p *places) enter(w http.ResponseWriter, r *http.Request) bool {
	select {
	case p.taken <- struct{}{}:
		p.inFlight.Inc()
		return true
	default:
		p.refused.Inc()
		record.Fail(w, r, fault.New(fault.Unavailable, "overloaded", "Too much is going on right now, try again").After(time.Second))
		return false
	}
}

func (p *places) leave() {
	p.inFlight.Dec()
	<-p.taken
}
