// Package meter turns what happens in the pipeline into metrics. It refuses to know what was said.
package meter

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Metrics implements call.Observer.
type Metrics struct {
	repeated *prometheus.CounterVec
	dropped  *prometheus.CounterVec
}

// New registers the metrics.
func New(tel telemetry.Set) (*Metrics, error) {
	m := &Metrics{
		repeated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_calls_requests_repeated_total", Help: "Requests to AI providers that were sent again because the answer to an equal one was lost, by step."}, []string{"step"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_calls_answers_dropped_total", Help: "Parts of AI answers that were not used: a claim whose quote is not in the transcript, a phrase that nobody said, a value of a wrong type."}, []string{"what"}),
	}
	if err := errors.Join(tel.Metrics.Register(m.repeated), tel.Metrics.Register(m.dropped)); err != nil {
		return nil, fmt.Errorf("register the metrics of the pipeline: %w", err)
	}
	return m, nil
}

// Repeated counts a request that is sent again.
func (m *Metrics) Repeated(step string) { m.repeated.WithLabelValues(step).Inc() }

// Dropped counts what of answers is not used.
func (m *Metrics) Dropped(what string, n int) { m.dropped.WithLabelValues(what).Add(float64(n)) }

// Lane is the state of the requests to one provider.
type Lane struct {
	Name    string // transcription, chat
	Stopped func() bool
	Ends    time.Time // of the model; zero if no end is known
}

// Watch registers the metrics of lanes.
func Watch(tel telemetry.Set, clk clock.Clock, lanes ...Lane) error {
	var failed []error
	for _, l := range lanes {
		labels := prometheus.Labels{"provider": l.Name}
		failed = append(failed, tel.Metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "convoflow_calls_provider_out_of_quota", Help: "Whether the account at an AI provider is used up, so that no requests are sent.", ConstLabels: labels}, func() float64 {
			if l.Stopped() {
				return 1
			}
			return 0
		})))
		if l.Ends.IsZero() {
			continue
		}
		failed = append(failed, tel.Metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "convoflow_calls_model_remaining_seconds", Help: "Time until the configured model ends, of models whose end is announced.", ConstLabels: labels},
			func() float64 { return l.Ends.Sub(clk.Now()).Seconds() })))
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("register the metrics of providers: %w", err)
	}
	return nil
}
