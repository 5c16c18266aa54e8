package pg

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const (
	// slowStatement is the minimum duration of a statement that is a span of its own. Most take less than a millisecond, and their spans
	// were two thirds of the trace of a call.
	slowStatement = 20 * time.Millisecond
	// slowAcquire is the minimum wait for a pool connection that gets a span.
	slowAcquire  = 5 * time.Millisecond
	maxStatement = 1000 // characters of a statement in a span
)

// tracer records each statement as an event of the span that it belongs to, named by the statement. A statement that is slow or fails
// has a span of its own. Outside a trace, such as for background polling, it does nothing.
type tracer struct {
	spans      trace.Tracer
	clock      clock.Clock
	attributes []attribute.KeyValue // of all spans
}

func newTracer(c *pgx.ConnConfig, tel telemetry.Set) tracer {
	return tracer{tel.Tracer(), tel.Clock, []attribute.KeyValue{
		semconv.DBSystemNamePostgreSQL, semconv.DBNamespace(c.Database), semconv.ServerAddress(c.Host), semconv.ServerPort(int(c.Port)),
	}}
}

type runningKey struct{}

// running is a statement that is running.
type running struct {
	name, sql string
	began     time.Time
}

func (t tracer) begin(ctx context.Context, name, sql string) context.Context {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx
	}
	return context.WithValue(ctx, runningKey{}, running{name, sql, t.clock.Now()})
}

// end records the statement that began with ctx.
func (t tracer) end(ctx context.Context, err error) {
	s, ok := ctx.Value(runningKey{}).(running)
	if !ok || s.name == "begin" {
		return
	}
	now := t.clock.Now()
	failed := err != nil && !errors.Is(err, pgx.ErrNoRows)
	if now.Sub(s.began) < slowStatement && !failed {
		trace.SpanFromContext(ctx).AddEvent(s.name, trace.WithTimestamp(now), trace.WithAttributes(attribute.Float64("duration_ms", float64(now.Sub(s.began).Microseconds())/1000)))
		return
	}
	_, span := t.spans.Start(ctx, s.name, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(s.began), trace.WithAttributes(t.attributes...),
		trace.WithAttributes(semconv.DBQuerySummary(s.name), semconv.DBQueryText(s.sql[:min(len(s.sql), maxStatement)])))
	if failed {
		span.SetStatus(codes.Error, state(err))
	}
	span.End(trace.WithTimestamp(now))
}

// state returns the SQLSTATE of an error: its message may quote data.
func state(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return "SQLSTATE " + refused.Code
	}
	return "no answer"
}

// nameOf names a statement by its first word and its first table: "update calls".
func nameOf(sql string) string {
	words := strings.Fields(strings.ToLower(sql[:min(len(sql), maxStatement)]))
	if len(words) == 0 {
		return "empty statement"
	}
	for i, w := range words[:len(words)-1] {
		if w == "from" || w == "into" || w == "update" {
			if table := strings.Trim(words[i+1], `(),;"`); table != "" && table != "select" && table != "skip" {
				return strings.TrimSuffix(words[0], ";") + " " + table
			}
		}
	}
	return words[0]
}

// TraceQueryStart implements pgx.QueryTracer.
func (t tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return t.begin(ctx, nameOf(data.SQL), data.SQL)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (t tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	t.end(ctx, data.Err)
}

// TraceBatchStart implements pgx.BatchTracer. A batch is one statement: it takes one round trip. Only what comes after BEGIN names it.
func (t tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	queries := data.Batch.QueuedQueries
	if len(queries) > 1 && queries[0].SQL == "begin" {
		queries = queries[1:]
	}
	switch len(queries) {
	case 0:
		return ctx
	case 1:
		return t.begin(ctx, nameOf(queries[0].SQL), queries[0].SQL)
	default:
		return t.begin(ctx, "batch "+nameOf(queries[0].SQL), queries[0].SQL)
	}
}

// TraceBatchQuery implements pgx.BatchTracer.
func (t tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (t tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	t.end(ctx, data.Err)
}

// TraceCopyFromStart implements pgx.CopyFromTracer.
func (t tracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	return t.begin(ctx, "copy "+strings.Join(data.TableName, "."), "")
}

// TraceCopyFromEnd implements pgx.CopyFromTracer.
func (t tracer) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceCopyFromEndData) {
	t.end(ctx, data.Err)
}

type acquireKey struct{}

// TraceAcquireStart implements pgxpool.AcquireTracer.
func (t tracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx
	}
	return context.WithValue(ctx, acquireKey{}, t.clock.Now())
}

// TraceAcquireEnd implements pgxpool.AcquireTracer. It creates a span for a slow wait.
func (t tracer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	began, ok := ctx.Value(acquireKey{}).(time.Time)
	if !ok || t.clock.Now().Sub(began) < slowAcquire {
		return
	}
	_, span := t.spans.Start(ctx, "pool.acquire", trace.WithTimestamp(began), trace.WithAttributes(t.attributes...))
	if data.Err != nil {
		span.SetStatus(codes.Error, "no connection")
	}
	span.End()
}
