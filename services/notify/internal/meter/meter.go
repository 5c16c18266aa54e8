// Package meter turns attempts and the backlog into metrics and log lines. It refuses to know what is in a delivery.
package meter

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// Metrics counts attempts and shows the backlog. It is safe for concurrent use.
type Metrics struct {
	tel        telemetry.Set
	deliveries *prometheus.CounterVec
	attempts   *prometheus.HistogramVec
	backlog    *prometheus.GaugeVec
	oldest     *prometheus.GaugeVec
	missing    prometheus.Gauge
	disabled   prometheus.Gauge
}

// New registers the metrics.
func New(tel telemetry.Set) (*Metrics, error) {
	m := &Metrics{
		tel: tel,
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "convoflow_notify_deliveries_total", Help: "Attempts by the status of their delivery afterwards: delivered, retrying, dead."}, []string{"result"}),
		attempts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "convoflow_notify_attempt_duration_seconds", Help: "Duration of requests to receivers by answer: 2xx, 3xx, 4xx, 5xx, or the error.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15}}, []string{"answer"}),
		backlog: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "convoflow_notify_backlog_deliveries", Help: "Deliveries that are not delivered, by status, a few seconds ago."}, []string{"status"}),
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "convoflow_notify_oldest_delivery_seconds", Help: "Age of the oldest delivery of a status, a few seconds ago; 0 without any."}, []string{"status"}),
		missing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "convoflow_notify_missing_deliveries", Help: "Events of the last day that an endpoint was to get, less the deliveries of them that are delivered, waiting, held or dead: 0, always."}),
		disabled: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "convoflow_notify_endpoints_disabled", Help: "Endpoints that the platform has disabled, after a 410 or five days of failures, a few seconds ago."}),
	}
	// An increase is seen only of a series that was there before: without these, the first delivery that dies would alert nobody.
	for _, status := range []delivery.Status{delivery.Delivered, delivery.Retrying, delivery.Dead} {
		m.deliveries.WithLabelValues(string(status))
	}
	for _, c := range []prometheus.Collector{m.deliveries, m.attempts, m.backlog, m.oldest, m.missing, m.disabled} {
		if err := tel.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("register the deliveries' metrics: %w", err)
		}
	}
	return m, nil
}

// Attempted implements delivery.Observer: it logs one line per attempt.
func (m *Metrics) Attempted(ctx context.Context, d delivery.Delivery, a delivery.Attempt) {
	answer, level := "", slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("delivery_id", d.ID), slog.String("webhook_id", d.EndpointID), slog.String("event", d.Event), slog.String("event_id", d.EventID),
		slog.Int("attempt", a.Number), slog.String("status", string(d.Status)), slog.Duration("took", a.Took),
	}
	if a.StatusCode != nil {
		answer = fmt.Sprintf("%dxx", *a.StatusCode/100)
		attrs = append(attrs, slog.Int("status_code", *a.StatusCode))
	}
	if a.Error != nil {
		answer = *a.Error
		attrs = append(attrs, slog.String("error", *a.Error))
	}
	if d.NextAttemptIn != nil {
		attrs = append(attrs, slog.Duration("next_attempt_in", *d.NextAttemptIn))
	}
	if d.Status != delivery.Delivered {
		level = slog.LevelWarn
	}
	m.tel.Log.LogAttrs(ctx, level, "webhook attempt", attrs...)
	m.deliveries.WithLabelValues(string(d.Status)).Inc()
	m.attempts.WithLabelValues(answer).Observe(a.Took.Seconds())
}

const backlogEvery = 10 * time.Second

// Backlog updates the backlog's gauges as an actor.
func (m *Metrics) Backlog(list func(context.Context) ([]delivery.Backlog, error)) run.Actor {
	return run.Every(backlogEvery, m.tel, "count the deliveries' backlog", func(ctx context.Context) error {
		found, err := list(ctx)
		if err != nil {
			return err
		}
		for _, status := range []delivery.Status{delivery.Pending, delivery.Retrying, delivery.Held, delivery.Dead} {
			m.set(delivery.Backlog{Status: status})
		}
		for _, b := range found {
			m.set(b)
		}
		return nil
	})
}

func (m *Metrics) set(b delivery.Backlog) {
	m.backlog.WithLabelValues(string(b.Status)).Set(float64(b.Count))
	m.oldest.WithLabelValues(string(b.Status)).Set(b.Oldest.Seconds())
}

// Endpoints updates the number of disabled endpoints as an actor.
func (m *Metrics) Endpoints(list func(context.Context) ([]endpoint.Endpoint, error)) run.Actor {
	return run.Every(backlogEvery, m.tel, "count the disabled endpoints", func(ctx context.Context) error {
		found, err := list(ctx)
		if err != nil {
			return err
		}
		disabled := 0
		for _, e := range found {
			if e.HasFailed() {
				disabled++
			}
		}
		m.disabled.Set(float64(disabled))
		return nil
	})
}

const reconcileEvery = time.Minute

// Reconciliation updates the number of events that have no delivery as an actor. It is an error in the log as soon as there is one.
func (m *Metrics) Reconciliation(count func(context.Context) (int64, error)) run.Actor {
	return run.Every(reconcileEvery, m.tel, "reconcile events and deliveries", func(ctx context.Context) error {
		n, err := count(ctx)
		if err != nil {
			return err
		}
		if n > 0 {
			m.tel.Log.ErrorContext(ctx, "events have no delivery", "count", n)
		}
		m.missing.Set(float64(n))
		return nil
	})
}
