package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/op"
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
// Each partition has its own loop, so that a partition that has to wait delays no other. A batch is one transaction. A message
// that can never be applied goes to the dead-letter topic <topic>.<group>.dlq at once, with the reason in its headers: one that
// cannot be decoded, one whose handler returns a fault that is not retryable or panics, and one whose data the database refuses.
// After any other error the loop retries until it succeeds. A type that is not in the catalog of its topic is counted and
// skipped with a warning, because during a release a consumer may be older than a producer.
type Consumer struct {
	kafka    *Kafka
	group    string
	inbox    Inbox
	chain    *op.Chain
	tel      telemetry.Set
	clock    clock.Clock
	handlers map[string][]handler // by event type
	topics   []event.Topic        // those it reads
	catalog  map[string]string    // event type to topic
	unknown  sync.Map             // event types that are not in the catalog and have been logged
	applying chan struct{}        // has an element for each transaction that runs
	commits  sync.Mutex           // of offsets, one at a time: kafka-go waits in a busy loop while several are in flight

	joining   *outage
	measuring *outage // the lag
	fetching  *outage
	waiting   *outage // for a transient error of apply
	moving    *outage // of dead letters
	handled   *prometheus.CounterVec
	delay     *prometheus.HistogramVec
	lag       *lag
}

// handler is a subscription to an event type.
type handler struct {
	spanned func(ctx context.Context, e event.Event) error // with a span for the event
	plain   func(ctx context.Context, e event.Event) error
}

const (
	batchSize    = 250 // messages per transaction
	spannedSize  = 25  // messages in the largest batch whose events have spans of their own
	transactions = 4   // at the same time: a service has 10 connections by default, and requests need some of them

	// A generation of a group ends within heartbeat when a member joins or leaves, and within sessionTimeout when one dies.
	heartbeat        = time.Second
	sessionTimeout   = 10 * time.Second
	rebalanceTimeout = 10 * time.Second
	joinBackoff      = time.Second
)

// NewConsumer returns a consumer without handlers; On adds them. group is the service's name.
func NewConsumer(k *Kafka, group string, in Inbox, chain *op.Chain, c clock.Clock, tel telemetry.Set) *Consumer {
	return &Consumer{
		kafka: k, group: group, inbox: in, chain: chain, tel: tel, clock: c,
		handlers: map[string][]handler{}, catalog: catalogOf(k.topics), topics: []event.Topic{requeueTopic(group)},
		applying: make(chan struct{}, transactions),
		joining:  newOutage(tel.Log, "joining the consumer group"), measuring: newOutage(tel.Log, "measuring the lag"), fetching: newOutage(tel.Log, "fetching from Kafka"), waiting: newOutage(tel.Log, "applying events"), moving: newOutage(tel.Log, "writing dead letters"),
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "convoflow_consumer_messages_total", Help: "Messages by topic and result: handled, duplicate, ignored, unknown, tombstone, dead.", ConstLabels: prometheus.Labels{"service": tel.Service}}, []string{"topic", "result"}),
		delay: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "convoflow_consumer_delay_seconds", Help: "Time from an event to its effect: from the change in the producer to the commit in this service.",
			ConstLabels: prometheus.Labels{"service": tel.Service}, Buckets: telemetry.Buckets()}, []string{"topic"}),
		lag: newLag(tel.Service, c),
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
// stores must use the transaction in its context, and it must not have any other side effects. Several handlers of one type run in
// the order in which they subscribe.
func On[T event.Payload](c *Consumer, h func(context.Context, event.Received[T]) error, types ...event.Type[T]) {
	// The consumer logs failures itself: once per outage and once per dead letter.
	chain := c.chain.LogFailuresAt(slog.LevelDebug)
	for _, t := range types {
		wrap := func(chain *op.Chain, describe bool) func(context.Context, event.Event) error {
			wrapped := chain.Wrap(c.tel.Service+".on "+t.Name, trace.SpanKindConsumer)(func(ctx context.Context, request any) (any, error) {
				e := request.(event.Event)
				if describe {
					c.describe(ctx, e)
				}
				received, err := t.Decode(e)
				if err != nil {
					return nil, err
				}
				return nil, h(ctx, received)
			})
			return func(ctx context.Context, e event.Event) error { _, err := wrapped(ctx, e); return err }
		}
		c.handlers[t.Name] = append(c.handlers[t.Name], handler{spanned: wrap(chain, true), plain: wrap(chain.WithoutSpans(), false)})
		if !slices.ContainsFunc(c.topics, func(known event.Topic) bool { return known.Name == t.Topic }) {
			c.topics = append(c.topics, c.kafka.topic(t.Topic))
		}
	}
}

// Empty reports whether the consumer has no handlers.
func (c *Consumer) Empty() bool { return len(c.handlers) == 0 }

// Run consumes until ctx ends.
func (c *Consumer) Run(ctx context.Context) error {
	blocked := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "convoflow_consumer_waiting_partitions", Help: "Partitions that wait until a transient error passes.", ConstLabels: prometheus.Labels{"service": c.tel.Service}}, func() float64 { return float64(c.waiting.count()) })
	if err := errors.Join(c.tel.Metrics.Register(c.handled), c.tel.Metrics.Register(c.delay), c.tel.Metrics.Register(c.lag), c.tel.Metrics.Register(blocked)); err != nil {
		return fmt.Errorf("register the consumer's metrics: %w", err)
	}
	for _, t := range c.topics {
		c.handled.WithLabelValues(t.Name, "dead") // it exists before the first one, so that the increase is seen
	}
	for ctx.Err() == nil {
		topics := c.existing(ctx)
		if len(topics) == 0 {
			_ = wait(ctx, joinBackoff)
			continue
		}
		if err := c.join(ctx, topics); err != nil {
			return err
		}
	}
	return nil
}

// existing returns the names of the consumer's topics that exist. It creates the others if possible.
func (c *Consumer) existing(ctx context.Context) (topics []string) {
	for _, t := range c.topics {
		if err := c.kafka.ensure(ctx, t); err != nil {
			c.joining.fails(ctx, t.Name, err)
			continue
		}
		c.joining.works(ctx, t.Name)
		topics = append(topics, t.Name)
	}
	return topics
}

// join consumes the topics, which exist, as a member of the group, until ctx ends or the monitor finds that the group must be joined
// with other topics. One topic that does not exist would leave the member without the partitions of all others.
func (c *Consumer) join(ctx context.Context, topics []string) error {
	var names []string
	for _, t := range topics {
		names = append(names, c.kafka.name(t))
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                c.kafka.name(c.group),
		Brokers:           c.kafka.cfg.Brokers,
		Topics:            names,
		Dialer:            c.kafka.dialer,
		StartOffset:       kafka.FirstOffset,
		HeartbeatInterval: heartbeat,
		SessionTimeout:    sessionTimeout,
		RebalanceTimeout:  rebalanceTimeout,
		JoinGroupBackoff:  joinBackoff,
	})
	if err != nil {
		return fmt.Errorf("configure the consumer group: %w", err)
	}
	defer func() { _ = group.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	var monitor sync.WaitGroup
	defer monitor.Wait()
	defer cancel()
	monitor.Go(func() {
		defer cancel()
		c.monitor(ctx, topics)
	})
	for {
		generation, err := group.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			c.joining.fails(ctx, "join", err) // the group itself waits before it tries again
			continue
		}
		c.joining.works(ctx, "join")
		c.start(ctx, generation, topics)
	}
}

// start starts a loop for each assigned partition of a generation. The generation ends when the first of them returns, and the group
// starts the next one when all have. When ctx ends, the loops wait until the group is closed, so that this member leaves the group
// instead of joining the next generation.
func (c *Consumer) start(ctx context.Context, g *kafka.Generation, topics []string) {
	for _, topic := range topics {
		for _, p := range g.Assignments[c.kafka.name(topic)] {
			r := &reader{kafka: c.kafka, topic: topic, partition: p.ID, next: p.Offset}
			g.Start(func(generation context.Context) {
				work, cancel := context.WithCancel(ctx)
				defer cancel()
				defer context.AfterFunc(generation, cancel)()
				c.consume(work, g, r)
				if ctx.Err() != nil {
					<-generation.Done()
				}
			})
		}
	}
}

// consume applies the messages of one partition until ctx ends.
func (c *Consumer) consume(ctx context.Context, g *kafka.Generation, r *reader) {
	defer c.fetching.works(ctx, r.name())
	defer c.waiting.works(ctx, r.name())
	for ctx.Err() == nil {
		var messages []kafka.Message
		_ = c.fetching.forever(ctx, r.name(), func(ctx context.Context) (err error) {
			messages, err = r.fetch(ctx)
			return err
		})
		for batch := range slices.Chunk(messages, batchSize) {
			if c.handle(ctx, r.name(), batch) != nil {
				return // only when ctx has ended
			}
			// A message whose offset is not committed is delivered again; the inbox skips it as a duplicate.
			committed := map[string]map[int]int64{c.kafka.name(r.topic): {r.partition: batch[len(batch)-1].Offset + 1}}
			if err := c.commit(g, committed); err != nil && ctx.Err() == nil {
				c.tel.Log.DebugContext(ctx, "offsets were not committed, the messages will be delivered again", "partition", r.name(), "error", err)
			}
		}
	}
}

// commit commits offsets. A broker answers the requests of the group's one connection one after another, too.
func (c *Consumer) commit(g *kafka.Generation, offsets map[string]map[int]int64) error {
	c.commits.Lock()
	defer c.commits.Unlock()
	return g.CommitOffsets(offsets)
}
