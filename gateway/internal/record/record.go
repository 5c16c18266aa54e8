// Package record records each request of the gateway, served, refused or abandoned, as one span, one log line and one
// observation of a metric. It records operations and results, never paths with ids, queries, headers or bodies.
package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// StatusClientClosedRequest is recorded when the client closed the connection before the response. The number is nginx's.
const StatusClientClosedRequest = 499

const unrouted = "gateway.unrouted" // no such path or method, or refused before routing

// Recorder records requests.
type Recorder struct {
	clock    clock.Clock
	tel      telemetry.Set
	tracer   trace.Tracer
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	refused  *prometheus.CounterVec
}

// New returns a recorder, with its metrics registered.
func New(c clock.Clock, tel telemetry.Set) (*Recorder, error) {
	r := &Recorder{
		clock:  c,
		tel:    tel,
		tracer: tel.Tracer(),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "convoflow_gateway_request_duration_seconds",
			Help:    "Duration of requests by operation and class of their status, from the first byte of the header to the last of the response.",
			Buckets: telemetry.Buckets(),
		}, []string{"op", "status"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "convoflow_gateway_requests_in_flight",
			Help: "Requests that are being served now.",
		}),
	}
	r.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "convoflow_gateway_refused_total",
		Help: "Requests that the gateway answered by itself with an error, or whose client left, by code.",
	}, []string{"code"})
	if err := errors.Join(tel.Metrics.Register(r.duration), tel.Metrics.Register(r.inFlight), tel.Metrics.Register(r.refused)); err != nil {
		return nil, fmt.Errorf("register the gateway's metrics: %w", err)
	}
	return r, nil
}

// entry is the record of one request. Only the goroutine that serves the request uses it.
type entry struct {
	op     string
	level  slog.Level // of the log line of a success
	err    error
	status int
	bytes  int64 // of the response body
}

// entryOf returns the entry of the request whose response is w.
func entryOf(w http.ResponseWriter) *entry {
	for {
		switch layer := w.(type) {
		case *writer:
			return &layer.entry
		case interface{ Unwrap() http.ResponseWriter }:
			w = layer.Unwrap()
		default: // not recorded
			return &entry{}
		}
	}
}

// Name records op as the operation of next. A success is logged at that level.
func Name(op string, level slog.Level, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := entryOf(w)
		e.op, e.level = op, level
		span := trace.SpanFromContext(r.Context())
		span.SetName(op)
		if _, route, ok := strings.Cut(r.Pattern, " "); ok {
			span.SetAttributes(attribute.String("http.route", route))
		}
		next.ServeHTTP(w, r)
	})
}

// Fail records err and writes it as the JSON error response.
func Fail(w http.ResponseWriter, r *http.Request, err error) {
	entryOf(w).err = err
	rpc.WriteError(w, r, err)
}

// TooSlowDetail is the detail of TooSlow.
const TooSlowDetail = "The request did not arrive in time: send it again"

// TooSlow returns the error for a client that is too slow with its request.
func TooSlow(cause error) *fault.Error {
	return fault.Wrap(cause, fault.RequestTimeout, "request_timeout", TooSlowDetail)
}

// ClientLeft records that the client disconnected before there was a response.
func ClientLeft(w http.ResponseWriter, err error) {
	entryOf(w).err = err
	w.WriteHeader(StatusClientClosedRequest)
}

// Handler records the requests that next serves, and turns a panic into a response.
func (rec *Recorder) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorded := &writer{ResponseWriter: w, entry: entry{op: unrouted, level: slog.LevelInfo}}
		ctx := rec.tel.Propagator.Extract(r.Context(), telemetry.Header(r.Header))
		ctx, span := rec.tracer.Start(ctx, unrouted, trace.WithSpanKind(trace.SpanKindServer))
		r = r.WithContext(ctx)
		took := clock.Stopwatch()
		rec.inFlight.Inc()
		defer func() {
			cut := rec.recovered(recorded, r, recover())
			rec.inFlight.Dec()
			rec.end(ctx, span, r, recorded, took())
			if cut {
				panic(http.ErrAbortHandler) // makes net/http truncate a response that has started
			}
		}()
		next.ServeHTTP(recorded, r)
	})
}

// recovered responds to a panic if there is no response yet, and otherwise reports that the response must be truncated.
// http.ErrAbortHandler is no bug: the proxy panics with it when a service's response is truncated.
func (rec *Recorder) recovered(w *writer, r *http.Request, p any) (cut bool) {
	thrown, _ := p.(error)
	aborted := errors.Is(thrown, http.ErrAbortHandler)
	switch {
	case p == nil:
		return false
	case aborted && r.Context().Err() != nil:
		w.err, w.status = r.Context().Err(), StatusClientClosedRequest
		return true
	case aborted:
		w.err, w.status = fault.New(fault.Unavailable, "answer_cut", "The service's response was truncated"), http.StatusBadGateway
		return true
	}
	rec.tel.Log.ErrorContext(r.Context(), "panic", "op", w.op, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if w.status != 0 {
		return true
	}
	Fail(w, r, fmt.Errorf("panic: %v", p))
	return false
}

// classes are the status labels, by first digit.
var classes = [...]string{1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx", 6: "6xx", 7: "7xx", 8: "8xx", 9: "9xx"}

func (rec *Recorder) end(ctx context.Context, span trace.Span, r *http.Request, w *writer, took time.Duration) {
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	level, code := w.level, ""
	if w.err != nil {
		code = fault.Of(w.err).Code
		if status == StatusClientClosedRequest {
			code = "client_closed_request"
		}
		span.SetAttributes(attribute.String("error.type", code))
	}
	switch {
	case status == http.StatusServiceUnavailable && level < slog.LevelInfo: // a probe asks whether the gateway is ready, and it is not
		level = slog.LevelInfo
	case status >= http.StatusInternalServerError:
		level = slog.LevelError
		span.SetStatus(codes.Error, "")
	}
	// Not through the Logger, which would look up the source line of this call for every request.
	if log := rec.tel.Log.Handler(); log.Enabled(ctx, level) {
		line := slog.NewRecord(rec.clock.Now(), level, "request", 0)
		line.AddAttrs(slog.String("op", w.op), slog.Int("status", status), slog.Float64("took_seconds", took.Seconds()), slog.Int64("bytes", w.bytes),
			slog.String("request_id", w.Header().Get(rpc.RequestIDHeader)))
		if code != "" {
			line.AddAttrs(slog.String("code", code))
		}
		if w.err != nil && level == slog.LevelError {
			line.AddAttrs(slog.String("error", w.err.Error()))
		}
		_ = log.Handle(ctx, line)
	}
	telemetry.Observe(ctx, rec.duration.WithLabelValues(w.op, classes[status/100]), took)
	if code != "" {
		rec.refused.WithLabelValues(code).Inc()
	}
	span.SetAttributes(attribute.String("http.request.method", method(r)), attribute.Int("http.response.status_code", status))
	span.End()
}

// method limits the values of the span attribute to known methods.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	default:
		return "_OTHER"
	}
}

// writer records the status and size of a response.
type writer struct {
	http.ResponseWriter
	entry
}

func (w *writer) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
