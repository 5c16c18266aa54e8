package proxy

import (
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/rpc"
)

// Metrics count what happens between the gateway and the services.
type Metrics struct {
	refused  *prometheus.CounterVec
	retries  *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
}

// NewMetrics registers the metrics. bodies is that of the Options.
func NewMetrics(registry *prometheus.Registry, bodies *rpc.Budget) (*Metrics, error) {
	memory := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "convoflow_gateway_body_memory_bytes", Help: "Bytes of request bodies that are in memory now.",
	}, func() float64 { return float64(bodies.Held()) })
	m := &Metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_gateway_upstream_refused_total", Help: "Requests answered with 503 without asking the service: overloaded, circuit_open.",
		}, []string{"upstream", "reason"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_gateway_upstream_retries_total", Help: "Requests sent to a service once more.",
		}, []string{"upstream"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "convoflow_gateway_upstream_in_flight", Help: "Requests that a service is serving now; kind is buffered, upload or download.",
		}, []string{"upstream", "kind"}),
	}
	return m, errors.Join(registry.Register(memory), registry.Register(m.refused), registry.Register(m.retries), registry.Register(m.inFlight))
}

// slots limit how many requests of one kind a service serves at the same time, over all its routes.
type slots struct {
	taken    chan struct{}
	inFlight prometheus.Gauge
	refused  prometheus.Counter
}

func (m *Metrics) slots(service, kind string, limit int) *slots {
	return &slots{make(chan struct{}, limit), m.inFlight.WithLabelValues(service, kind), m.refused.WithLabelValues(service, "overloaded")}
}

// acquire takes a slot, which the caller releases, or refuses the request at once: a queue would only make an overloaded
// service slower.
func (s *slots) acquire(w http.ResponseWriter, r *http.Request) bool {
	select {
	case s.taken <- struct{}{}:
		s.inFlight.Inc()
		return true
	default:
		s.refused.Inc()
		record.Fail(w, r, fault.New(fault.Unavailable, "overloaded", "Too much is going on right now, try again").After(time.Second))
		return false
	}
}

func (s *slots) release() {
	s.inFlight.Dec()
	<-s.taken
}
