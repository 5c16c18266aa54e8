// Package telemetry gives each service its own log, tracer and metric registry, so that five services can run in one process
// without sharing any. It refuses globals: it does not set the defaults of OpenTelemetry or Prometheus.
package telemetry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
)

// Set is the telemetry of one service. It is safe for concurrent use.
type Set struct {
	Service    string
	Version    string
	Log        *slog.Logger
	Traces     trace.TracerProvider
	Propagator propagation.TextMapPropagator
	Metrics    *prometheus.Registry
	Clock      clock.Clock // for the times of spans, which OpenTelemetry otherwise takes from the system
}

// Tracer returns the service's only tracer.
func (s Set) Tracer() trace.Tracer { return s.Traces.Tracer("github.com/convoflow/convoflow") }

// Inject returns the W3C trace headers of ctx, to be stored with work that continues later or elsewhere. It is empty if ctx has
// no trace.
func (s Set) Inject(ctx context.Context) map[string]string {
	carrier := propagation.MapCarrier{}
	s.Propagator.Inject(ctx, carrier)
	return carrier
}

// Extract returns ctx with the trace in the headers, so that spans started with it join that trace.
func (s Set) Extract(ctx context.Context, headers map[string]string) context.Context {
	return s.Propagator.Extract(ctx, propagation.MapCarrier(headers))
}

// Untraced returns the headers of a request that belongs to no work, such as one of a process that polls. Its server begins no trace,
// as it would without headers: nobody looks for these traces, and there would be more of them than of any others.
func (s Set) Untraced(ctx context.Context) map[string]string {
	c := trace.SpanContextConfig{}
	_, _ = rand.Read(c.TraceID[:]) // never fails
	_, _ = rand.Read(c.SpanID[:])
	return s.Inject(trace.ContextWithSpanContext(ctx, trace.NewSpanContext(c)))
}

// Header carries a trace in HTTP headers, under their canonical names. Unlike OpenTelemetry's own carrier, it does not compute
// the canonical names for each request.
type Header http.Header

var headerNames = map[string]string{"traceparent": "Traceparent", "tracestate": "Tracestate"}

// Get implements propagation.TextMapCarrier.
func (h Header) Get(key string) string {
	if values := h[cmp.Or(headerNames[key], key)]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (h Header) Set(key, value string) { h[cmp.Or(headerNames[key], key)] = []string{value} }

// Keys implements propagation.TextMapCarrier.
func (h Header) Keys() []string { return slices.Collect(maps.Keys(h)) }

// TraceID returns the trace id of ctx as 32 hex digits, or "" without a trace.
func TraceID(ctx context.Context) string {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		return sc.TraceID().String()
	}
	return ""
}

// Config says how logs are written. OpenTelemetry's own variables (OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT, …) decide
// where traces are exported to; without any of them, none are exported.
type Config struct {
	LogLevel  slog.Level `env:"LOG_LEVEL"`
	LogFormat string     `env:"LOG_FORMAT"` // json or text
}

// Defaults is JSON at level info.
func Defaults() Config { return Config{LogLevel: slog.LevelInfo, LogFormat: "json"} }

// Check lists the problems with the configuration.
func (c Config) Check() []string {
	if c.LogFormat != "json" && c.LogFormat != "text" {
		return []string{"LOG_FORMAT must be json or text"}
	}
	return nil
}

// New starts the telemetry of a service, which writes its log to w. The returned function flushes the traces and stops it.
func New(ctx context.Context, service, version string, cfg Config, w io.Writer) (Set, func(context.Context) error, error) {
	options := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(resource.NewSchemaless(semconv.ServiceName("convoflow-"+service), semconv.ServiceVersion(version), attribute.String("service.namespace", "convoflow"))),
	}
	export, err := exporter(ctx, os.Getenv)
	if err != nil {
		return Set{}, nil, fmt.Errorf("start the trace exporter: %w", err)
	}
	if export != nil {
		options = append(options, sdktrace.WithBatcher(export, sdktrace.WithBatchTimeout(time.Second)))
	}
	provider := sdktrace.NewTracerProvider(options...)

	registry := prometheus.NewRegistry()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "convoflow_build_info", Help: "1, with the running version."}, []string{"service", "version"})
	info.WithLabelValues(service, version).Set(1)
	err = errors.Join(
		registry.Register(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
			// Beside the default ones: how long goroutines wait for a CPU, and what the garbage collector and contended locks cost.
			collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/(sched/latencies:seconds|sync/mutex/wait/total:seconds|cpu/classes/gc/total:cpu-seconds)$`)},
		))),
		registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
		registry.Register(info),
	)
	if err != nil {
		return Set{}, nil, fmt.Errorf("register metrics: %w", err)
	}
	return Set{
		Service:    service,
		Version:    version,
		Log:        slog.New(handler(cfg, w)).With("service", service),
		Traces:     provider,
		Propagator: propagation.TraceContext{},
		Metrics:    registry,
		Clock:      clock.System{},
	}, provider.Shutdown, nil
}

// Nop returns telemetry that discards logs and traces, for tests that do not check them.
func Nop() Set {
	return Set{
		Service:    "test",
		Version:    "test",
		Log:        slog.New(slog.DiscardHandler),
		Traces:     sdktrace.NewTracerProvider(),
		Propagator: propagation.TraceContext{},
		Metrics:    prometheus.NewRegistry(),
		Clock:      clock.System{},
	}
}

func handler(cfg Config, w io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == "text" {
		return traced{slog.NewTextHandler(w, options)}
	}
	return traced{slog.NewJSONHandler(w, options)}
}

// traced adds the trace of the context to each line, and writes durations in seconds.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	hasDuration := false
	r.Attrs(func(a slog.Attr) bool {
		hasDuration = a.Value.Kind() == slog.KindDuration
		return !hasDuration
	})
	if hasDuration {
		converted := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
		r.Attrs(func(a slog.Attr) bool {
			converted.AddAttrs(seconds(a))
			return true
		})
		r = converted
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler {
	converted := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		converted[i] = seconds(a)
	}
	return traced{h.Handler.WithAttrs(converted)}
}

func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }

// seconds converts a duration to a number of seconds with the unit in its name; slog writes nanoseconds without a unit. It is
// not a ReplaceAttr function, because slog would call that for every attribute of every line.
func seconds(a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key+"_seconds", a.Value.Duration().Seconds())
	}
	return a
}
