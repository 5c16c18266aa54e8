package bus_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/event/eventtest"
	"github.com/convoflow/convoflow/libs/inbox"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// consumed publishes events, each in a trace of its own, and returns their traces, the traces in which their handlers ran, and the spans
// of the consumer.
func consumed(t *testing.T, n int) (traces, handled []string, spans []sdktrace.ReadOnlySpan) {
	t.Helper()
	s, recorder := start(t), tracetest.NewSpanRecorder()
	tel := telemetry.Nop()
	tel.Traces = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	id := event.NewID() // one partition, and so one batch
	var messages []outbox.Message
	for range n {
		ctx, span := telemetry.Nop().Tracer().Start(t.Context(), "producer")
		messages = append(messages, outbox.Message{Event: client(id, "", 1), Trace: tel.Inject(ctx)})
		traces = append(traces, span.SpanContext().TraceID().String())
	}
	_, err := s.kafka.Publish(t.Context(), eventtest.ThingsTopic, messages)
	require.NoError(t, err)
	chain, err := op.NewChain(tel, pg.Classify)
	require.NoError(t, err)
	c := bus.NewConsumer(s.kafka, "test", inbox.New(s.db), chain, clock.System{}, tel)
	bus.On(c, func(ctx context.Context, e event.Received[eventtest.Thing]) error {
		handled = append(handled, telemetry.TraceID(ctx))
		return s.apply(ctx, e)
	}, eventtest.ThingChanged)
	stop := s.run(t, c)
	s.await(t, n)
	stop()
	for _, span := range recorder.Ended() {
		if span.Name() != "wait for test" {
			spans = append(spans, span)
		}
	}
	return traces, handled, spans
}

func TestTheEventsOfASmallBatchHaveSpansInTheirTraces(t *testing.T) {
	t.Parallel()
	traces, handled, spans := consumed(t, 3)
	require.Equal(t, traces, handled)
	require.Len(t, spans, 3)
	for i, span := range spans {
		require.Equal(t, "test.on "+eventtest.ThingChanged.Name, span.Name())
		require.Equal(t, traces[i], span.SpanContext().TraceID().String())
	}
}

// What the handlers of a large batch do belongs to the traces of the events, but the batch has one span.
func TestALargeBatchHasOneSpanThatIsLinkedToTheTracesOfItsEvents(t *testing.T) {
	t.Parallel()
	traces, handled, spans := consumed(t, 100)
	require.Equal(t, traces, handled)
	require.Len(t, spans, 1)
	require.Equal(t, "test.on "+eventtest.ThingsTopic, spans[0].Name())
	var linked []string
	for _, link := range spans[0].Links() {
		linked = append(linked, link.SpanContext.TraceID().String())
	}
	require.Equal(t, traces, linked)
}
