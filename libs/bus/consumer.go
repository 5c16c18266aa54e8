package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Inbox records which events a consumer has processed, in the transaction that applies them.
type Inbox interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
	// Mark records the events as processed and returns those that were not recorded before.
	Mark(ctx context.Context, eventIDs []string) (newIDs map[string]bool, err error)
}

// Consumer reads topics as one consumer group and passes each event to its handler once.
//
// A batch is one transaction. When it fails, its messages are processed one by one. A message that fails with a transient
// error (the database is unavailable) is retried until it succeeds. One that cannot be handled goes to the dead-letter topic
// <topic>.<group>.dlq with the reason in its headers, so that it never blocks the partition.
type Consumer struct {
	kafka    *Kafka
	group    string
	inbox    Inbox
	chain    *op.Chain
	tel      telemetry.Set
	clock    clock.Clock
	handlers map[string]handler // by event type
	topics   []string
	catalog  map[string]string // event type to topic

	handled *prometheus.CounterVec
	delay   *prometheus.GaugeVec
}

type handler func(ctx context.Context, e event.Event) error

const (
	batchSize    = 250                  // messages per transaction
	batchWait    = 2 * time.Millisecond // how long a batch may fill after its first message
	retryFirst   = 100 * time.Millisecond
	retryMax     = 5 * time.Second
	retryUnknown = 6 // attempts for an unclassified error, about 3 s, before it counts as permanent
)

// NewConsumer returns a consumer without handlers; On adds them. group is the service's name.
func NewConsumer(k *Kafka, group string, in Inbox, chain *op.Chain, c clock.Clock, tel telemetry.Set) *Consumer {
	return &Consumer{
		kafka: k, group: group, inbox: in, chain: chain, tel: tel, clock: c,
		handlers: map[string]handler{}, catalog: catalogOf(k.topics),
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "convoflow_consumer_messages_total", Help: "Messages by topic and result: handled, duplicate, ignored, dead.", ConstLabels: prometheus.Labels{"service": tel.Service}}, []string{"topic", "result"}),
		delay:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "convoflow_consumer_delay_seconds", Help: "Age of the newest handled event when its effect was committed.", ConstLabels: prometheus.Labels{"service": tel.Service}}, []string{"topic"}),
	}
}

// catalogOf maps each event type to its topic.
func catalogOf(topics []event.Topic) map[string]string {
	catalog := map[string]string{}
	for _, t := range topics {
		for _, name := range t.Types {
			catalog[name] = t.Name
		}
	}
	return catalog
}

// On subscribes a handler to event types. The handler runs in the transaction that records the event as processed, so its
// stores must use the transaction in its context, and it must not have any other side effects.
func On[T event.Payload](c *Consumer, h func(context.Context, event.Received[T]) error, types ...event.Type[T]) {
	for _, t := range types {
		handle := c.chain.Wrap(c.tel.Service+".on "+t.Name, trace.SpanKindConsumer)(func(ctx context.Context, request any) (any, error) {
			return nil, h(ctx, request.(event.Received[T]))
		})
		c.handlers[t.Name] = func(ctx context.Context, event event.Event) error {
			received, err := t.Decode(event)
			if err != nil {
				return err
			}
			_, err = handle(ctx, received)
			return err
		}
		if !slices.Contains(c.topics, t.Topic) {
			c.topics = append(c.topics, t.Topic)
		}
	}
}

// Empty reports whether the consumer has no handlers.
func (c *Consumer) Empty() bool { return len(c.handlers) == 0 }

// Run consumes until ctx ends.
func (c *Consumer) Run(ctx context.Context) error {
	if err := errors.Join(c.tel.Metrics.Register(c.handled), c.tel.Metrics.Register(c.delay)); err != nil {
		return fmt.Errorf("register the consumer's metrics: %w", err)
	}
	// A group that joins before its topics exist is assigned no partitions and does not refresh its metadata soon.
	if err := retryForever(ctx, c.tel.Log, "create the topics", c.kafka.Ensure); err != nil {
		return nil
	}
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers:               c.kafka.cfg.Brokers,
		GroupID:               c.group,
		GroupTopics:           c.topics,
		Dialer:                c.kafka.dialer,
		MinBytes:              1,
		MaxBytes:              10 << 20,
		MaxWait:               500 * time.Millisecond, // also how long Close takes
		StartOffset:           kafka.FirstOffset,
		HeartbeatInterval:     time.Second, // also how long a rebalance takes
		SessionTimeout:        10 * time.Second,
		RebalanceTimeout:      10 * time.Second,
		JoinGroupBackoff:      time.Second,
		WatchPartitionChanges: true,
		QueueCapacity:         2 * batchSize,
	})
	defer func() { _ = reader.Close() }()
	for {
		batch, err := c.fetch(ctx, reader)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			c.tel.Log.WarnContext(ctx, "fetch from Kafka, retrying", "error", err)
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("the reader of group %s was closed: %w", c.group, err)
			}
			if wait(ctx, time.Second) != nil {
				return nil
			}
			continue
		}
		if err := c.handle(ctx, batch); err != nil {
			return nil // only when ctx has ended
		}
		// A message whose offset is not committed is delivered again; the inbox skips it as a duplicate.
		if err := reader.CommitMessages(ctx, batch...); err != nil && ctx.Err() == nil {
			c.tel.Log.WarnContext(ctx, "commit offsets, the messages will be delivered again", "error", err)
		}
	}
}

// fetch waits for one message and adds those that arrive within batchWait.
func (c *Consumer) fetch(ctx context.Context, reader *kafka.Reader) ([]kafka.Message, error) {
	first, err := reader.FetchMessage(ctx)
	if err != nil {
		return nil, err
	}
	batch := []kafka.Message{first}
	filling, cancel := context.WithTimeout(ctx, batchWait)
	defer cancel()
	for len(batch) < batchSize {
		m, err := reader.FetchMessage(filling)
		if err != nil {
			break // batchWait is over, or the next fetch returns the same error
		}
		batch = append(batch, m)
	}
	return batch, nil
}

// handle returns when every message has been applied or is in the dead-letter topic. Its error is ctx.Err().
func (c *Consumer) handle(ctx context.Context, batch []kafka.Message) error {
	err := c.apply(ctx, batch)
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	for _, m := range batch {
		if err := c.retryUntilDone(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// retryUntilDone applies one message until it succeeds or is dead-lettered.
func (c *Consumer) retryUntilDone(ctx context.Context, m kafka.Message) error {
	for attempt, delay := 1, retryFirst; ; attempt, delay = attempt+1, min(2*delay, retryMax) {
		err := c.apply(ctx, []kafka.Message{m})
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f := fault.Of(err)
		if !fault.Retryable(err) || f.Kind == fault.Internal && attempt >= retryUnknown {
			return c.deadLetter(ctx, m, f, attempt)
		}
		c.tel.Log.WarnContext(ctx, "handle an event, retrying", "topic", m.Topic, "partition", m.Partition, "offset", m.Offset, "attempt", attempt, "code", f.Code, "error", err)
		if err := wait(ctx, delay); err != nil {
			return err
		}
	}
}

// apply runs the handlers of the messages in one transaction, which also records the events in the inbox.
func (c *Consumer) apply(ctx context.Context, batch []kafka.Message) error {
	var events []outbox.Message
	var ids []string
	ignored := map[[2]string]int{} // by topic and result
	for _, m := range batch {
		e, err := decode(m)
		if err != nil {
			return err
		}
		if c.catalog[e.Type] != e.Topic {
			return fault.New(fault.Invalid, "unknown_type", fmt.Sprintf("No event type %q is known on topic %s", e.Type, e.Topic))
		}
		if c.handlers[e.Type] == nil {
			ignored[[2]string{m.Topic, "ignored"}]++
			continue
		}
		events, ids = append(events, e), append(ids, e.ID)
	}
	if len(events) == 0 {
		c.count(ignored)
		return nil
	}
	var results map[[2]string]int // by topic and result
	err := c.inbox.InTx(ctx, func(ctx context.Context) error {
		results = map[[2]string]int{} // reset when the transaction is retried
		newIDs, err := c.inbox.Mark(ctx, ids)
		if err != nil {
			return err
		}
		for _, e := range events {
			if !newIDs[e.ID] {
				results[[2]string{e.Topic, "duplicate"}]++
				continue
			}
			delete(newIDs, e.ID) // the batch may contain the same event twice
			if err := c.handlers[e.Type](c.tel.Extract(ctx, e.Trace), e.Event); err != nil {
				return fmt.Errorf("handle %s %s: %w", e.Type, e.ID, err)
			}
			results[[2]string{e.Topic, "handled"}]++
		}
		return nil
	})
	if err != nil {
		return c.chain.Classify(err)
	}
	newest := events[len(events)-1]
	c.delay.WithLabelValues(newest.Topic).Set(c.clock.Now().Sub(newest.Time).Seconds())
	c.count(ignored)
	c.count(results)
	return nil
}

func (c *Consumer) count(results map[[2]string]int) {
	for key, n := range results {
		c.handled.WithLabelValues(key[0], key[1]).Add(float64(n))
	}
}

// Headers that a message in a dead-letter topic has in addition to its own.
const (
	deadReason   = "dead_reason"
	deadDetail   = "dead_detail"
	deadAttempts = "dead_attempts"
	deadSource   = "dead_source" // topic/partition/offset
	deadAt       = "dead_at"
)

// DeadLetterTopic names the topic for the messages of topic that the consumer group cannot handle.
func DeadLetterTopic(topic, group string) string { return topic + "." + group + ".dlq" }

func (c *Consumer) deadLetter(ctx context.Context, m kafka.Message, f *fault.Error, attempts int) error {
	topic := DeadLetterTopic(m.Topic, c.group)
	dead := kafka.Message{Topic: topic, Key: m.Key, Value: m.Value, Headers: append(slices.Clone(m.Headers),
		kafka.Header{Key: deadReason, Value: []byte(f.Code)},
		kafka.Header{Key: deadDetail, Value: []byte(f.Detail)},
		kafka.Header{Key: deadAttempts, Value: fmt.Append(nil, attempts)},
		kafka.Header{Key: deadSource, Value: fmt.Appendf(nil, "%s/%d/%d", m.Topic, m.Partition, m.Offset)},
		kafka.Header{Key: deadAt, Value: []byte(c.clock.Now().Format(time.RFC3339Nano))},
	)}
	err := retryForever(ctx, c.tel.Log, "write to the dead-letter topic", func(ctx context.Context) error {
		if err := c.kafka.create(ctx, c.kafka.topicConfig(event.Topic{Name: topic, Retention: 28 * 24 * time.Hour})); err != nil {
			return err
		}
		return c.kafka.write(ctx, dead)
	})
	if err != nil {
		return err
	}
	c.tel.Log.ErrorContext(ctx, "an event cannot be handled and was moved to the dead-letter topic", "topic", topic, "source", fmt.Sprintf("%s/%d/%d", m.Topic, m.Partition, m.Offset), "reason", f.Code, "attempts", attempts, "error", f)
	c.handled.WithLabelValues(m.Topic, "dead").Inc()
	return nil
}

// retryForever calls do until it succeeds. Its error is ctx.Err().
func retryForever(ctx context.Context, log *slog.Logger, what string, do func(context.Context) error) error {
	for delay := retryFirst; ; delay = min(2*delay, retryMax) {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		log.WarnContext(ctx, "Kafka request failed, retrying", "doing", what, "error", err)
		if err := wait(ctx, delay); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
