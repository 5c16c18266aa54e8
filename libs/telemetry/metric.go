package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
)

// Buckets returns the buckets of every histogram of operations, in seconds. They are few, because each is a series per label value.
func Buckets() []float64 {
	return []float64{.0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 300}
}

// slow is the upper bound of the first of Buckets. What takes less time gets no exemplar: nobody looks for the trace of it, and storing it
// took 5 % of the CPU time of a service that consumes events.
const slow = 2500 * time.Microsecond

// Observe adds a duration to a histogram. The trace of ctx is its exemplar, so that a dashboard leads from a slow bucket to a trace.
func Observe(ctx context.Context, o prometheus.Observer, took time.Duration) {
	sc := trace.SpanContextFromContext(ctx)
	with, ok := o.(prometheus.ExemplarObserver)
	if !ok || took < slow || !sc.IsSampled() {
		o.Observe(took.Seconds())
		return
	}
	with.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": sc.TraceID().String()})
}

// Steps measures the steps of longer work, such as the runs of ffmpeg: a span and an observation for each.
type Steps struct {
	tracer   trace.Tracer
	duration *prometheus.HistogramVec
}

// NewSteps registers the histogram name{step,result}.
func (s Set) NewSteps(name, help string) (*Steps, error) {
	steps := &Steps{s.Tracer(), prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: Buckets()}, []string{"step", "result"})}
	if err := s.Metrics.Register(steps.duration); err != nil {
		return nil, fmt.Errorf("register the metric %s: %w", name, err)
	}
	return steps, nil
}

// Do runs fn as the step, which is the label, with a span of that name. A nil Steps only runs fn.
func (s *Steps) Do(ctx context.Context, step, span string, fn func(context.Context) error, attributes ...attribute.KeyValue) error {
	if s == nil {
		return fn(ctx)
	}
	ctx, current := s.tracer.Start(ctx, span, trace.WithAttributes(attributes...))
	defer current.End()
	took := clock.Stopwatch()
	err := fn(ctx)
	Observe(ctx, s.duration.WithLabelValues(step, Result(err)), took())
	if err != nil {
		current.SetStatus(codes.Error, Result(err))
	}
	return err
}

// Result is the label for how something ended: ok, canceled or the code of the fault.
func Result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return fault.Of(err).Code
}
