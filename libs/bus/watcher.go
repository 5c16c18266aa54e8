package bus

import (
	"context"
	"errors"
	"fmt"
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

// Watcher hands the events of one topic to this process, from some time back and as they come. It has no consumer group, so
// every replica sees every event, and no inbox: an event may come again, and after a restart it does. It is for what each
// replica must know at once and keeps in memory; what must not be lost belongs to a Consumer.
type Watcher struct {
	kafka    *Kafka
	topic    string
	back     time.Duration
	tel      telemetry.Set
	clock    clock.Clock
	handlers map[string]func(event.Event) error // by event type
	behind   atomic.Int64                       // partitions whose past has not been read
	caughtUp atomic.Bool
	delay    prometheus.Gauge
	seen     prometheus.Gauge
}

const partitionsEvery = 30 * time.Second // a topic that grows is noticed so soon

// ErrBehind says that a watcher has not read the past yet.
var ErrBehind = errors.New("the past of a topic has not been read yet")

// NewWatcher makes a watcher without handlers that reads what was published since so long before it runs. Watch adds
// handlers.
func NewWatcher(k *Kafka, topic string, back time.Duration, tel telemetry.Set) *Watcher {
	return &Watcher{
		kafka: k, topic: topic, back: back, tel: tel, clock: clock.System{}, handlers: map[string]func(event.Event) error{},
		delay: prometheus.NewGauge(prometheus.GaugeOpts{
			Name:        "convoflow_watcher_delay_seconds",
			Help:        "Age of the newest watched event when it had its effect in this process.",
			ConstLabels: prometheus.Labels{"service": tel.Service, "topic": topic},
		}),
		seen: prometheus.NewGauge(prometheus.GaugeOpts{
			Name:        "convoflow_watcher_seen_timestamp_seconds",
			Help:        "When the watched topic was last found, as Unix time: every 30 s unless Kafka is away.",
			ConstLabels: prometheus.Labels{"service": tel.Service, "topic": topic},
		}),
	}
}

// Watch subscribes a handler to an event type. It may be called for several partitions at the same time.
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

// Ready fails with ErrBehind until everything has been read that was there when the watcher began.
func (w *Watcher) Ready(context.Context) error {
	if !w.CaughtUp() {
		return ErrBehind
	}
	return nil
}

// CaughtUp reports what Ready says.
func (w *Watcher) CaughtUp() bool { return w.caughtUp.Load() }

// Run watches until ctx ends. While Kafka is away it goes on trying.
func (w *Watcher) Run(ctx context.Context) error {
	if err := errors.Join(w.tel.Metrics.Register(w.delay), w.tel.Metrics.Register(w.seen)); err != nil {
		return fmt.Errorf("register the watcher's metrics: %w", err)
	}
	var readers sync.WaitGroup
	defer readers.Wait()
	for watched := 0; ; {
		var spans []span
		err := patiently(ctx, w.tel.Log, "look at the topic "+w.topic, func(ctx context.Context) (err error) {
			if err = w.kafka.Ensure(ctx); err == nil {
				spans, err = w.kafka.spans(ctx, w.topic, w.clock.Now().Add(-w.back))
			}
			return err
		})
		if err != nil {
			return nil // only a ctx that ended
		}
		w.seen.SetToCurrentTime()
		first := watched == 0
		if first {
			w.behind.Store(int64(len(spans)))
		}
		for _, s := range spans[min(watched, len(spans)):] {
			readers.Go(func() { w.follow(ctx, s, first) })
		}
		watched = max(watched, len(spans))
		if wait(ctx, partitionsEvery) != nil {
			return nil
		}
	}
}

// follow reads one partition from where the span begins. counts says whether readiness waits for it.
func (w *Watcher) follow(ctx context.Context, s span, counts bool) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: w.kafka.cfg.Brokers, Topic: w.topic, Partition: s.partition, Dialer: w.kafka.dialer,
		MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 500 * time.Millisecond, // also how long Close takes
	})
	defer func() { _ = reader.Close() }()
	_ = reader.SetOffset(s.begin) // fails only for a closed reader or one of a group
	reached := func(next int64) {
		if counts && next >= s.end {
			counts = false
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
				w.tel.Log.WarnContext(ctx, "watch a topic, trying again", "topic", w.topic, "partition", s.partition, "error", err)
			}
			warned = true
			_ = wait(ctx, retryFirst) // the reader itself waits between its tries
			continue
		}
		warned = false
		w.handle(ctx, m)
		reached(m.Offset + 1)
	}
}

// handle gives a message to its handler. One that cannot be read is left out: the consumers of the topic bury it.
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
		w.tel.Log.WarnContext(ctx, "a watched event cannot be read", "topic", m.Topic, "partition", m.Partition, "offset", m.Offset, "error", err)
		return
	}
	w.delay.Set(w.clock.Now().Sub(e.Time).Seconds())
}

// span is what a partition holds since some time: the offsets from begin to before end.
type span struct {
	partition  int
	begin, end int64
}

// spans lists the partitions of a topic, in their order.
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
	// The beginnings come first: what is published meanwhile is then in the span. Kafka refuses to answer both at once.
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
			for offset := range b.Offsets { // one; -1 when nothing has been published since
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
