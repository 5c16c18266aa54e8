package outbox

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/telemetry"
)

// trace starts a producer span for each message of a trace, which continues in that span. It begins when the event was written, so
// that the time in the outbox is seen. The returned function ends the spans.
func (l *leader) trace(ctx context.Context, messages []Message, ages []time.Duration) (end func(err error)) {
	now := l.tel.Clock.Now()
	var spans []trace.Span
	for i, m := range messages {
		parent := l.tel.Extract(ctx, m.Trace)
		if telemetry.TraceID(parent) == "" {
			continue
		}
		sending, span := l.tel.Tracer().Start(parent, "send "+m.Type, trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(now.Add(-ages[i])), trace.WithAttributes(
			attribute.String("messaging.system", "kafka"), attribute.String("messaging.operation.name", "send"), attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.destination.name", m.Topic), attribute.String("messaging.message.id", m.ID), attribute.String("messaging.kafka.message.key", m.Key),
		))
		messages[i].Trace = l.tel.Inject(sending)
		spans = append(spans, span)
	}
	return func(err error) {
		for _, span := range spans {
			if err != nil {
				span.SetStatus(codes.Error, "not acknowledged")
			}
			span.End()
		}
	}
}
