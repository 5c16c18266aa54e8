package meter

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Providers measures the requests to AI providers.
type Providers struct {
	duration *prometheus.HistogramVec
	tokens   *prometheus.CounterVec
	audio    *prometheus.CounterVec
	cost     *prometheus.CounterVec
}

// NewProviders registers the metrics.
func NewProviders(tel telemetry.Set) (*Providers, error) {
	labels := []string{"provider", "model"}
	p := &Providers{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "convoflow_calls_provider_request_duration_seconds", Help: "Duration of requests to AI providers by result: ok or the error code.", Buckets: telemetry.Buckets()}, append(labels, "result")),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_calls_provider_tokens_total", Help: "Tokens as providers count them, by direction: input, output."}, append(labels, "direction")),
		audio: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_calls_provider_audio_seconds_total", Help: "Seconds of audio that were transcribed by providers."}, labels),
		cost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_calls_provider_cost_usd_total", Help: "Cost of the requests, of models whose price is known, in US dollars."}, labels),
	}
	for _, c := range []prometheus.Collector{p.duration, p.tokens, p.audio, p.cost} {
		if err := tel.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of providers: %w", err)
		}
	}
	return p, nil
}

// Observer returns the function that measures the requests of a kind: transcription or chat.
func (p *Providers) Observer(kind, model string) func(ctx context.Context, took time.Duration, u call.Usage, err error) {
	return func(ctx context.Context, took time.Duration, u call.Usage, err error) {
		telemetry.Observe(ctx, p.duration.WithLabelValues(kind, model, telemetry.Result(err)), took)
		p.tokens.WithLabelValues(kind, model, "input").Add(float64(u.InputTokens))
		p.tokens.WithLabelValues(kind, model, "output").Add(float64(u.OutputTokens))
		p.audio.WithLabelValues(kind, model).Add(u.Seconds)
		if u.CostUSD != nil {
			p.cost.WithLabelValues(kind, model).Add(*u.CostUSD)
		}
	}
}
