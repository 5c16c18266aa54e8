package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Watcher delivers the events of one topic to this process: the recent ones at start, then new ones as they are published. It
// has no consumer group, so every replica receives every event, and no inbox, so an event may be delivered more than once,
// as after a restart. Use it for state that every replica holds in memory; use a Consumer for events that must not be lost.
type Watcher struct {
	kafka    *Kafka
	topic    string
	lookback time.Duration
	tel      telemetry.Set
	clock    clock.Clock
	handlers map[string]func(event.Event) error // by event type
	behind   atomic.Int64                       // partitions whose backlog has not been read
	caughtUp atomic.Bool
	delay    prometheus.Gauge
	polled   prometheus.Gauge
}

const partitionInterval = 30 * time.Second // how often the watcher checks for new partitions

const forever = time.Duration(math.MaxInt64)

// ErrBehind means that a watcher has not read its backlog yet.
var ErrBehind = errors.New("the backlog of a topic has not been read yet")

// NewWatcher returns a watcher without handlers; Watch adds them. Its backlog is every event that was published in the
// lookback period before Run.
func NewWatcher(k *Kafka, topic string, lookback time.Duration, c clock.Clock, tel telemetry.Set) *Watcher {
	return &Watcher{
		kafka: k, topic: topic, lookback: lookback, tel: tel, clock: c, handlers: map[string]func(event.Event) error{},
		delay: prometheus.NewGauge(prometheus.GaugeOpts{
			Name:        "convoflow_watcher_delay_seconds",
			Help:        "Age of the newest watched event when this process handled it.",
			ConstLabels: prometheus.Labels{"service": tel.Service, "topic": topic},
		}),
		polled: prometheus.NewGauge(prometheus.GaugeOpts{
			Name:        "convoflow_watcher_seen_timestamp_seconds",
			Help:        "Unix time of the last successful partition check of the watched topic: every 30 s unless Kafka is unavailable.",
			ConstLabels: prometheus.Labels{"service": tel.Service, "topic": topic},
		}),
	}
}

// Watch subscribes a handler to an event type. Partitions are read concurrently, so h must be safe for concurrent use.
func Watch[T event.Payload](w *Watcher, t event.Type[T], h func(event.Received[T])) {
	w.handlers[t.Name] = func(e event.Event) error {
		received, err := t.Decode(e)
		if err != nil {
			return err
		}
		h(received)
		return nil
	}
}

// Ready fails with ErrBehind until the watcher has handled every event that was published before it started.
func (w *Watcher) Ready(context.Context) error {
	if !w.CaughtUp() {
		return ErrBehind
	}
	return nil
}

// CaughtUp reports whether Ready succeeds.
func (w *Watcher) CaughtUp() bool { return w.caughtUp.Load() }

// Stale returns for how long the watcher may have missed events: zero while it follows the topic, and forever before it has
// caught up for the first time.
func (w *Watcher) Stale() time.Duration {
	if !w.CaughtUp() {
		return forever
	}
	return 0
}

// Run watches until ctx ends. It retries while Kafka is unavailable.
func (w *Watcher) Run(ctx context.Context) error {
	if err := errors.Join(w.tel.Metrics.Register(w.delay), w.tel.Metrics.Register(w.polled)); err != nil {
		return fmt.Errorf("register the watcher's metrics: %w", err)
	}
	var readers sync.WaitGroup
	defer readers.Wait()
	for watched := 0; ; {
		var spans []span
		err := retryForever(ctx, w.tel.Log, "list the partitions of "+w.topic, func(ctx context.Context) (err error) {
			if err = w.kafka.Ensure(ctx); err == nil {
				spans, err = w.kafka.spans(ctx, w.topic, w.clock.Now().Add(-w.lookback))
			}
			return err
		})
		if err != nil {
			return nil // only when ctx has ended
		}
		w.polled.SetToCurrentTime()
		first := watched == 0
		if first {
			w.behind.Store(int64(len(spans)))
		}
		for _, s := range spans[min(watched, len(spans)):] {
			readers.Go(func() { w.follow(ctx, s, first) })
		}
		watched = max(watched, len(spans))
		if wait(ctx, partitionInterval) != nil {
			return nil
		}
	}
}

// follow reads one partition from the beginning of the span. backlog says whether readiness waits for this partition.
func (w *Watcher) follow(ctx context.Context, s span, backlog bool) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: w.kafka.cfg.Brokers, Topic: w.topic, Partition: s.partition, Dialer: w.kafka.dialer,
		MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 500 * time.Millisecond, // also how long Close takes
	})
	defer func() { _ = reader.Close() }()
	_ = reader.SetOffset(s.begin) // fails only for a closed reader or a consumer group's
	reached := func(next int64) {
		if backlog && next >= s.end {
			backlog = false
			if w.behind.Add(-1) == 0 {
				w.caughtUp.Store(true)
			}
		}
	}
	reached(s.begin)
	for warned := false; ; {
		m, err := reader.FetchMessage(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if !warned {
				w.tel.Log.WarnContext(ctx, "watch a topic, retrying", "topic", w.topic, "partition", s.partition, "error", err)
			}
			warned = true
			_ = wait(ctx, retryFirst) // the reader has its own backoff too
			continue
		}
		warned = false
		w.handle(ctx, m)
		reached(m.Offset + 1)
	}
}

// handle passes a message to its handler. It skips one that cannot be decoded: the consumers of the topic dead-letter it.
func (w *Watcher) handle(ctx context.Context, m kafka.Message) {
	e, err := decode(m)
	h := w.handlers[e.Type]
	if err == nil && h == nil {
		return
	}
	if err == nil {
		err = h(e.Event)
	}
	if err != nil {
		w.tel.Log.WarnContext(ctx, "a watched event cannot be decoded", "topic", m.Topic, "partition", m.Partition, "offset", m.Offset, "error", err)
		return
	}
	w.delay.Set(w.clock.Now().Sub(e.Time).Seconds())
}

// span is the range of offsets of a partition since some time, end excluded.
type span struct {
	partition  int
	begin, end int64
}

// spans lists the spans of a topic's partitions, sorted by partition.
func (k *Kafka) spans(ctx context.Context, topic string, since time.Time) ([]span, error) {
	client := &kafka.Client{Addr: k.writer.Addr, Transport: k.transport, Timeout: 10 * time.Second}
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return nil, fmt.Errorf("list the partitions of %s: %w", topic, err)
	}
	var first, last []kafka.OffsetRequest
	for _, t := range meta.Topics {
		if t.Error != nil {
			return nil, fmt.Errorf("list the partitions of %s: %w", topic, t.Error)
		}
		for _, p := range t.Partitions {
			first, last = append(first, kafka.TimeOffsetOf(p.ID, since)), append(last, kafka.LastOffsetOf(p.ID))
		}
	}
	if len(first) == 0 {
		return nil, fmt.Errorf("list the partitions of %s: there are none", topic)
	}
	// Begin offsets are fetched first, so that the span includes events published meanwhile. Kafka rejects a request for both.
	begins, err := offsets(ctx, client, topic, first)
	if err != nil {
		return nil, err
	}
	ends, err := offsets(ctx, client, topic, last)
	if err != nil {
		return nil, err
	}
	var spans []span
	for _, p := range ends {
		s := span{partition: p.Partition, begin: p.LastOffset, end: p.LastOffset}
		for _, b := range begins {
			for offset := range b.Offsets { // there is one; -1 when nothing has been published since
				if b.Partition == p.Partition && offset >= 0 {
					s.begin = offset
				}
			}
		}
		spans = append(spans, s)
	}
	slices.SortFunc(spans, func(a, b span) int { return a.partition - b.partition })
	return spans, nil
}

func offsets(ctx context.Context, client *kafka.Client, topic string, requests []kafka.OffsetRequest) ([]kafka.PartitionOffsets, error) {
	res, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: requests}})
	if err != nil {
		return nil, fmt.Errorf("list the offsets of %s: %w", topic, err)
	}
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("list the offsets of %s: %w", topic, p.Error)
		}
	}
	return res.Topics[topic], nil
}
