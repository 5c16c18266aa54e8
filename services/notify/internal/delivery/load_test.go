package delivery_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
	"github.com/convoflow/convoflow/services/notify/internal/store"
)

// statements counts the statements of traces: each is an event of a span, or a span if it is slow.
type statements struct {
	sdktrace.SpanProcessor
	n atomic.Int64
}

func (s *statements) OnEnd(span sdktrace.ReadOnlySpan) {
	s.n.Add(int64(len(span.Events()) + span.DroppedEvents() + 1))
}

// counted returns a rig, and what counts the statements that its database gets.
func counted(t *testing.T) (r *rig, count func(do func(ctx context.Context)) int64) {
	t.Helper()
	s := &statements{SpanProcessor: sdktrace.NewSimpleSpanProcessor(tracetest.NewNoopExporter())}
	tel := telemetry.Nop()
	tel.Traces = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(s))
	db, err := pg.Open(t.Context(), pg.Config{URL: conf.Secret(pgtest.Schema(t)), MaxConns: 6}, "unused", tel)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	require.NoError(t, db.Migrate(t.Context(), outbox.Migrations(), store.Migrations()))
	return on(t, db), func(do func(context.Context)) int64 {
		before := s.n.Load()
		ctx, span := tel.Tracer().Start(t.Context(), "test")
		do(ctx)
		span.End()
		return s.n.Load() - before - 1 // without the span itself
	}
}

// backlog stores n deliveries that are due to the only endpoint.
func (r *rig) backlog(n int) {
	r.t.Helper()
	pgtest.Fill(r.t, r.db, fmt.Sprintf(`
		insert into deliveries (id, endpoint_id, event, event_id, event_time, data, body, status, attempts, failures, next_attempt_at, lease_epoch, trace, created_at, updated_at)
		select delivery_id(now()), '%s', 'transcription.completed', gen_random_uuid(), now(), '{"a": 1}', '{"a":1}', 'pending', 0, 0, now(), 1, '{}', now(), now() from generate_series(1, %d)`,
		r.endpoint().ID, n), "analyze deliveries")
}

// The target is fewer than 5 statements a second for 10,000 deliveries that wait for one hanging endpoint.
func TestWhatWaitsForAHangingEndpointCostsNothing(t *testing.T) {
	t.Parallel()
	r, count := counted(t)
	r.seed("https://hanging.example/hook", "s3cret")
	r.backlog(10_000)
	r.answers(timeout)
	for range 3 {
		r.once() // its failures open the breaker
	}
	require.NotNil(t, r.endpoint().ProbeIn)
	r.change(func(e *endpoint.Endpoint) { e.ProbeIn = new(30 * time.Second) })

	of := func() (wait time.Duration, n int64) {
		n = count(func(ctx context.Context) {
			var err error
			wait, err = r.Once(ctx)
			require.NoError(t, err)
		})
		return wait, n
	}
	idle, inRound := of()
	require.Positive(t, inRound, "statements are counted")
	r.change(func(e *endpoint.Endpoint) { e.ProbeIn = new(time.Duration(0)) })
	sent := len(r.receiver.got)
	_, ofProbe := of()
	require.Len(t, r.receiver.got, sent+1)
	probes := r.endpoint().ProbeIn.Seconds()
	perSecond := float64(inRound)/idle.Seconds() + float64(ofProbe)/probes + 1.0/5 // and the look for expired leases
	t.Logf("%.1f statements a second: %d every %s, %d for a probe every %.0f s", perSecond, inRound, idle, ofProbe, probes)
	require.Less(t, perSecond, 5.0)
}

// One of ten endpoints hangs, with 10,000 deliveries. While its requests are on their way, the others get theirs as if there were none.
func TestAHangingEndpointHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	rounds := func(hanging int) (n int) {
		r := start(t)
		r.Workers = 32
		r.seed("https://hanging.example/hook", "s3cret")
		r.backlog(hanging)
		release := make(chan struct{})
		r.receiver.to = map[string]func(context.Context) delivery.Answer{"https://hanging.example/hook": func(ctx context.Context) delivery.Answer {
			<-release
			return timeout(ctx)
		}}
		if hanging > 0 {
			require.NoError(t, r.Claim(t.Context()))
		}
		r.exec(`update endpoints set events = '{lead.*}'`) // no more for this one
		for i := range 9 {
			_, err := r.seeding.Create(t.Context(), endpoint.CreateRequest{URL: fmt.Sprintf("https://healthy%d.example", i)})
			require.NoError(t, err)
		}
		for range 20 {
			require.NoError(t, r.OnTranscriptionCompleted(t.Context(), r.event(nil)))
		}
		delivered := func() int { return query[int](r, `select count(*)::int from deliveries where status = 'delivered'`)[0] }
		for delivered() < 9*20 {
			before := len(r.receiver.requests())
			require.NoError(t, r.Claim(t.Context()))
			claimed := query[int](r, `select count(*)::int from deliveries where lease_holder is not null and event_time < now() - interval '1 hour'`)[0]
			require.Eventually(t, func() bool { return len(r.receiver.requests()) == before+claimed }, time.Minute, time.Millisecond)
			require.Eventually(t, func() bool { return r.Answered() == claimed }, time.Minute, time.Millisecond)
			require.NoError(t, r.Flush(t.Context()))
			n++
			require.Less(t, n, 100, "the healthy endpoints get nothing")
		}
		close(release)
		r.Wait()
		require.NoError(t, r.Flush(t.Context()))
		return n
	}
	without, with := rounds(0), rounds(10_000)
	require.LessOrEqual(t, with, 2*without+1, "half of the workers are left, and no endpoint waits for another")
}
