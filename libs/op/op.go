// Package op is the middleware chain of all operations. An operation is a go-kit endpoint; HTTP requests, events and jobs use the
// same chain. The package refuses to know any of the three transports.
package op

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-kit/kit/endpoint"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Chain is the middleware of every operation: it recovers panics, traces, logs and measures. An operation is named
// <service>.<verb>; that string is the span name, the log field op and the metric label op. It is safe for concurrent use.
type Chain struct {
	tel      telemetry.Set
	tracer   trace.Tracer
	duration *prometheus.HistogramVec
	results  *prometheus.CounterVec
	classify func(error) error
	failures slog.Level // of server errors in the log
	spanless bool       // operations belong to the span of their context
}

// NewChain returns the chain of a service. classify turns an adapter's error into a fault; see pg.Classify.
func NewChain(tel telemetry.Set, classify func(error) error) (*Chain, error) {
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:        "convoflow_operation_duration_seconds",
		Help:        "Duration of operations by the class of their status: ok, refused (a client error), failed (a server error) or canceled.",
		ConstLabels: prometheus.Labels{"service": tel.Service},
		Buckets:     telemetry.Buckets(),
	}, []string{"op", "status"})
	results := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name:        "convoflow_operations_total",
		Help:        "Operations by their result: ok, canceled or the fault's code.",
		ConstLabels: prometheus.Labels{"service": tel.Service},
	}, []string{"op", "result"})
	if err := errors.Join(tel.Metrics.Register(duration), tel.Metrics.Register(results)); err != nil {
		return nil, fmt.Errorf("register the operations' metrics: %w", err)
	}
	return &Chain{tel: tel, tracer: tel.Tracer(), duration: duration, results: results, classify: classify, failures: slog.LevelError}, nil
}

// LogFailuresAt returns the same chain with another log level for server errors, for a caller that logs them itself.
func (c *Chain) LogFailuresAt(level slog.Level) *Chain {
	quiet := *c
	quiet.failures = level
	return &quiet
}

// WithoutSpans returns the same chain without a span for each operation, for a caller that has one span for many.
func (c *Chain) WithoutSpans() *Chain {
	spanless := *c
	spanless.spanless = true
	return &spanless
}

// Wrap returns the middleware for an operation. Its span has the given kind and joins the trace of ctx. A panic becomes a
// Defect, except http.ErrAbortHandler, which is re-panicked.
func (c *Chain) Wrap(op string, kind trace.SpanKind) endpoint.Middleware {
	return func(next endpoint.Endpoint) endpoint.Endpoint {
		return func(ctx context.Context, request any) (response any, err error) {
			var span trace.Span = noop.Span{}
			if !c.spanless {
				ctx, span = c.tracer.Start(ctx, op, trace.WithSpanKind(kind))
			}
			took := clock.Stopwatch()
			defer func() {
				p := recover()
				if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares the value itself
					aborted, cancel := context.WithCancel(ctx)
					cancel()
					c.end(aborted, span, op, took(), context.Canceled)
					panic(p)
				}
				if p != nil {
					c.tel.Log.ErrorContext(ctx, "panic", "op", op, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
					err = fault.New(fault.Defect, "internal_error", "Something went wrong on our side")
				}
				c.end(ctx, span, op, took(), err)
			}()
			response, err = next(ctx, request)
			err = c.classify(err)
			return response, err
		}
	}
}

func (c *Chain) end(ctx context.Context, span trace.Span, op string, took time.Duration, err error) {
	result, status, level := "ok", "ok", slog.LevelDebug
	attrs := []slog.Attr{slog.String("op", op), slog.Duration("took", took)}
	if err != nil {
		result, status, level = fault.Of(err).Code, "refused", slog.LevelInfo
		switch {
		case errors.Is(err, context.Canceled) && ctx.Err() != nil:
			result, status = "canceled", "canceled" // the client disconnected or the process is stopping
		case fault.Status(err) >= 500:
			// Only server errors mark the span as failed and log the cause. Client errors are normal responses.
			status, level = "failed", c.failures
			attrs = append(attrs, slog.String("error", err.Error()))
			span.SetStatus(codes.Error, result)
		}
		attrs = append(attrs, slog.String("code", result))
		span.SetAttributes(attribute.String("error.type", result))
	}
	c.tel.Log.LogAttrs(ctx, level, "operation", attrs...)
	telemetry.Observe(ctx, c.duration.WithLabelValues(op, status), took)
	c.results.WithLabelValues(op, result).Inc()
	span.End()
}

// Classify turns an adapter's error into a fault, with the function passed to NewChain.
func (c *Chain) Classify(err error) error { return c.classify(err) }
