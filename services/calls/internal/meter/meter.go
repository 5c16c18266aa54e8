// Package meter turns what happens in the pipeline into metrics, and into one log line for each attempt at a call. It refuses to
// know what was said.
package meter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Metrics implements call.Observer. It is safe for concurrent use.
type Metrics struct {
	tel        telemetry.Set
	repeated   *prometheus.CounterVec
	dropped    *prometheus.CounterVec
	attempts   *prometheus.CounterVec
	processing *prometheus.HistogramVec
	seconds    prometheus.Counter
	count, age *prometheus.GaugeVec
	missing    prometheus.Gauge
}

// New registers the metrics.
func New(tel telemetry.Set) (*Metrics, error) {
	m := &Metrics{
		tel: tel,
		repeated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_calls_requests_repeated_total", Help: "Requests to AI providers that were sent again because the answer to an equal one was lost, by step."}, []string{"step"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_calls_answers_dropped_total", Help: "Parts of AI answers that were not used: a claim whose quote is not in the transcript, a phrase that nobody said, a value of a wrong type."}, []string{"what"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_calls_attempts_total", Help: "Attempts at calls by the status of the call afterwards and the result: the outcome of a completed call, or the error code."}, []string{"status", "result"}),
		processing: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "convoflow_calls_processing_seconds", Help: "Time from the upload to the end of the work, by the status of the call. Retries by hand do not count.",
			Buckets: []float64{1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 86400}}, []string{"status"}),
		seconds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "convoflow_calls_audio_seconds_total", Help: "Seconds of recordings of completed calls."}),
		count: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "convoflow_calls_unfinished", Help: "Calls that have not ended, by status. Of all replicas, a few seconds ago."}, []string{"status"}),
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "convoflow_calls_oldest_unfinished_seconds", Help: "Time since the upload of the oldest call that has not ended, or since the last progress of one that is transcribed anew, by status; 0 without any. Of all replicas, a few seconds ago."}, []string{"status"}),
		missing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "convoflow_calls_recordings_missing", Help: "Recordings of calls that were not in the storage when they were last compared, once a day."}),
	}
	for _, c := range []prometheus.Collector{m.repeated, m.dropped, m.attempts, m.processing, m.seconds, m.count, m.age, m.missing} {
		if err := tel.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of the pipeline: %w", err)
		}
	}
	for _, step := range []string{call.StepTranscribe, call.StepAnalyse} {
		m.repeated.WithLabelValues(step) // it exists before the first one, so that the increase is seen
	}
	return m, nil
}

// Repeated counts a request that is sent again.
func (m *Metrics) Repeated(step string) { m.repeated.WithLabelValues(step).Inc() }

// Dropped counts what of answers is not used.
func (m *Metrics) Dropped(what string, n int) { m.dropped.WithLabelValues(what).Add(float64(n)) }

// Missing sets how many recordings of calls are not in the storage.
func (m *Metrics) Missing(n int) { m.missing.Set(float64(n)) }

// Attempted logs and counts an attempt at a call.
func (m *Metrics) Attempted(ctx context.Context, a call.Attempt) {
	c, result, level := a.Call, "", slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("call_id", c.ID), slog.Int("attempt", c.Lease.Attempts), slog.Int("run", c.Run), slog.String("status", string(c.Status)), slog.Duration("took", a.Took),
	}
	attrs = append(attrs, known("audio_seconds", c.DurationSeconds)...)
	attrs = append(attrs, known("transcription_model", c.Models.Transcription)...)
	attrs = append(attrs, known("chat_model", c.Models.Chat)...)
	attrs = append(attrs, known("cost_usd", c.CostUSD)...)
	attrs = append(attrs, known("outcome", c.Outcome)...)
	if c.Outcome != nil {
		result = *c.Outcome
	}
	if a.Err != nil {
		result, level = fault.Of(a.Err).Code, slog.LevelWarn
		attrs = append(attrs, slog.String("code", result), slog.Int("failures", c.Lease.Failures), slog.Bool("again", c.Lease.Job != nil), slog.String("error", a.Err.Error()))
	}
	m.tel.Log.LogAttrs(ctx, level, "call attempt", attrs...)
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("call.id", c.ID), attribute.Int("call.attempt", c.Lease.Attempts), attribute.String("call.result", result))
	m.attempts.WithLabelValues(string(c.Status), result).Inc()
	if c.Ended() && c.Run == 1 {
		telemetry.Observe(ctx, m.processing.WithLabelValues(string(c.Status)), max(0, c.UpdatedAt.Sub(c.CreatedAt)))
	}
	if c.Status == call.Completed && c.DurationSeconds != nil {
		m.seconds.Add(*c.DurationSeconds)
	}
}

// known returns the attribute, or none for nil.
func known[T any](name string, value *T) []slog.Attr {
	if value == nil {
		return nil
	}
	return []slog.Attr{slog.Any(name, *value)}
}

const backlogEvery = 10 * time.Second

// Backlog updates the gauges of calls that have not ended, as an actor. They are absent while they cannot be read.
func (m *Metrics) Backlog(list func(context.Context) ([]call.Backlog, error)) run.Actor {
	return run.Every(backlogEvery, m.tel, "count the calls that have not ended", func(ctx context.Context) error {
		m.count.Reset()
		m.age.Reset()
		found, err := list(ctx)
		if err != nil {
			return err
		}
		for _, b := range found {
			m.count.WithLabelValues(string(b.Status)).Set(float64(b.Count))
			m.age.WithLabelValues(string(b.Status)).Set(b.Oldest.Seconds())
		}
		return nil
	})
}

// Provider is the state of one provider.
type Provider struct {
	Name       string // transcription, chat
	OutOfQuota func() bool
	Ends       time.Time // of the model; zero if no end is known
}

// Register registers the metrics of the state of providers.
func Register(tel telemetry.Set, clk clock.Clock, providers ...Provider) error {
	var failed []error
	for _, p := range providers {
		labels := prometheus.Labels{"provider": p.Name}
		failed = append(failed, tel.Metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "convoflow_calls_provider_out_of_quota", Help: "Whether the account at an AI provider is used up, so that no requests are sent.", ConstLabels: labels}, func() float64 {
			if p.OutOfQuota() {
				return 1
			}
			return 0
		})))
		if p.Ends.IsZero() {
			continue
		}
		failed = append(failed, tel.Metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "convoflow_calls_model_remaining_seconds", Help: "Time until the configured model ends, of models whose end is announced.", ConstLabels: labels},
			func() float64 { return p.Ends.Sub(clk.Now()).Seconds() })))
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("register the metrics of providers: %w", err)
	}
	return nil
}
