package bus

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// handle returns when every message of a partition's batch has been applied or is in the dead-letter topic. Its error is
// ctx.Err().
func (c *Consumer) handle(ctx context.Context, partition string, batch []kafka.Message) error {
	for delay := retryFirst; len(batch) > 0; {
		err := c.apply(ctx, batch)
		if err == nil {
			c.waiting.works(ctx, partition)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if fault.Retryable(err) {
			c.waiting.fails(ctx, partition, err)
			if err := wait(ctx, delay); err != nil {
				return err
			}
			delay = min(2*delay, retryMax)
			continue
		}
		if len(batch) > 1 { // one of them cannot be applied: halving the batch isolates it
			middle := len(batch) / 2
			if err := c.handle(ctx, partition, batch[:middle]); err != nil {
				return err
			}
			batch, delay = batch[middle:], retryFirst
			continue
		}
		return c.deadLetter(ctx, batch[0], fault.Of(err))
	}
	return nil
}

// apply runs the handlers of the messages in one transaction, which also records the events in the inbox. An error does not say whose
// it is: a statement of one handler may be executed with the first one of the next (pg.DB.Later).
func (c *Consumer) apply(ctx context.Context, batch []kafka.Message) error {
	select {
	case c.applying <- struct{}{}:
		defer func() { <-c.applying }()
	case <-ctx.Done():
		return ctx.Err()
	}
	took := clock.Stopwatch()
	events, ids := map[int]outbox.Message{}, []string{} // by index in the batch
	results := map[[2]string]int{}                      // by topic and result
	for i, m := range batch {
		if m.Value == nil { // compaction removes the key
			results[[2]string{m.Topic, "tombstone"}]++
			continue
		}
		e, err := decode(m)
		if err != nil {
			return err
		}
		switch {
		case c.catalog[e.Type] != e.Topic:
			if _, warned := c.unknown.LoadOrStore(e.Type, true); !warned {
				c.tel.Log.WarnContext(ctx, "events of an unknown type are skipped; is this service older than the producer?", "topic", e.Topic, "type", e.Type, "partition", m.Partition, "offset", m.Offset)
			}
			results[[2]string{e.Topic, "unknown"}]++
		case c.handlers[e.Type] == nil:
			results[[2]string{e.Topic, "ignored"}]++
		default:
			events[i], ids = e, append(ids, e.ID)
		}
	}
	if len(ids) > 0 {
		ctx, span := c.span(ctx, batch[0].Topic, events)
		defer span.End()
		applied, handled := map[[2]string]int{}, []outbox.Message{}
		err := c.inbox.InTx(ctx, func(ctx context.Context) error {
			clear(applied) // the transaction may be retried
			handled = handled[:0]
			newIDs, err := c.inbox.Mark(ctx, ids)
			if err != nil {
				return err
			}
			for i := range batch {
				e, ok := events[i]
				if !ok {
					continue
				}
				if !newIDs[e.ID] {
					applied[[2]string{e.Topic, "duplicate"}]++
					continue
				}
				delete(newIDs, e.ID) // the batch may contain the same event twice
				if err := c.call(c.received(ctx, batch[i], e), e.Event, len(ids) <= spannedSize); err != nil {
					return fmt.Errorf("handle %s %s: %w", e.Type, e.ID, err)
				}
				applied[[2]string{e.Topic, "handled"}]++
				handled = append(handled, e)
			}
			return nil
		})
		if err != nil {
			err = c.chain.Classify(err)
			span.SetStatus(codes.Error, fault.Of(err).Code)
			return err
		}
		for key, n := range applied {
			results[key] += n
		}
		c.observe(ctx, handled)
	}
	attrs := []slog.Attr{slog.String("topic", batch[0].Topic), slog.Int("partition", batch[0].Partition), slog.Int64("offset", batch[0].Offset), slog.Int("messages", len(batch))}
	for key, n := range results {
		c.handled.WithLabelValues(key[0], key[1]).Add(float64(n))
		attrs = append(attrs, slog.Int(key[1], n))
	}
	c.tel.Log.LogAttrs(ctx, slog.LevelInfo, "events consumed", append(attrs, slog.Duration("took", took()))...)
	return nil
}

// call runs the handlers of an event.
func (c *Consumer) call(ctx context.Context, e event.Event, spanned bool) error {
	for _, h := range c.handlers[e.Type] {
		handle := h.plain
		if spanned {
			handle = h.spanned
		}
		if err := handle(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// span starts the span of a large batch. Its events have no spans of their own: their durations would mean little, because their
// statements are executed together, and they took a quarter of the CPU time of a busy consumer. The span is linked to the traces of the newest
// events (the SDK keeps 128 links), and what their handlers do still belongs to these traces. The events of a small batch have spans
// instead.
func (c *Consumer) span(ctx context.Context, topic string, events map[int]outbox.Message) (context.Context, trace.Span) {
	if len(events) <= spannedSize {
		return ctx, noop.Span{}
	}
	var links []trace.Link
	for _, i := range slices.Sorted(maps.Keys(events)) {
		if sc := trace.SpanContextFromContext(c.tel.Extract(ctx, events[i].Trace)); sc.IsValid() {
			links = append(links, trace.Link{SpanContext: sc})
		}
	}
	return c.tel.Tracer().Start(ctx, c.tel.Service+".on "+topic, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(links...),
		trace.WithAttributes(append(c.attributes("process", topic), attribute.Int("messaging.batch.message_count", len(events)))...))
}

// attributes are those of a span about messages of a topic.
func (c *Consumer) attributes(operation, topic string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "kafka"), attribute.String("messaging.operation.name", operation), attribute.String("messaging.operation.type", operation),
		attribute.String("messaging.consumer.group.name", c.group), attribute.String("messaging.destination.name", topic),
	}
}

// describe adds an event to its span.
func (c *Consumer) describe(ctx context.Context, e event.Event) {
	trace.SpanFromContext(ctx).SetAttributes(append(c.attributes("process", e.Topic), attribute.String("messaging.message.id", e.ID), attribute.String("messaging.kafka.message.key", e.Key))...)
}

// slowDelivery is the minimum time from the append at the broker to the handler that gets a span.
const slowDelivery = 20 * time.Millisecond

// received returns the context of a message's trace, with a span for the time that it waited for this consumer.
func (c *Consumer) received(ctx context.Context, m kafka.Message, e outbox.Message) context.Context {
	ctx = c.tel.Extract(ctx, e.Trace)
	if len(e.Trace) == 0 || m.Time.IsZero() || c.clock.Now().Sub(m.Time) < slowDelivery {
		return ctx
	}
	_, span := c.tel.Tracer().Start(ctx, "wait for "+c.tel.Service, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(m.Time), trace.WithAttributes(append(c.attributes("receive", e.Topic),
		attribute.String("messaging.destination.partition.id", strconv.Itoa(m.Partition)), attribute.Int64("messaging.kafka.offset", m.Offset))...))
	span.End()
	return ctx
}

// observe records how long the events of a batch took from the change in the producer to now. The two clocks may differ. The exemplar
// is of the first event, which is the oldest.
func (c *Consumer) observe(ctx context.Context, handled []outbox.Message) {
	now := c.clock.Now()
	for i, e := range handled {
		took := max(0, now.Sub(e.Time))
		if i == 0 {
			telemetry.Observe(c.tel.Extract(ctx, e.Trace), c.delay.WithLabelValues(e.Topic), took)
			continue
		}
		c.delay.WithLabelValues(e.Topic).Observe(took.Seconds())
	}
}
