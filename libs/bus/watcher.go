package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
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
	outage   *outage
	delay    prometheus.Gauge

	mu        sync.Mutex
	positions map[int]int64        // by partition: the offset of the next message
	current   func() time.Duration // time since a moment up to which every event has been handled; nil before there is one
}

const (
	// checkInterval is how often the watcher compares its positions with the ends of the partitions.
	checkInterval = time.Second
	endsExpire    = 5 * time.Second // the ends may be those of a topic that was lost meanwhile
	forever       = time.Duration(math.MaxInt64)
)

// NewWatcher returns a watcher without handlers; Watch adds them. Its backlog is every event that was published in the
// lookback period before Run.
func NewWatcher(k *Kafka, topic string, lookback time.Duration, c clock.Clock, tel telemetry.Set) *Watcher {
	return &Watcher{
		kafka: k, topic: topic, lookback: lookback, tel: tel, clock: c, handlers: map[string]func(event.Event) error{},
		outage: newOutage(tel.Log, "watching "+topic), positions: map[int]int64{},
		delay: prometheus.NewGauge(prometheus.GaugeOpts{
			Name:        "convoflow_watcher_delay_seconds",
			Help:        "Age of the newest watched event when this process handled it.",
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

// Stale returns for how long the watcher may have missed events: every event that was published before that time has been handled.
// It is 1 to 2 s while the watcher follows the topic, and grows while the topic cannot be read or does not exist. Before the watcher
// has caught up for the first time it is the longest duration.
func (w *Watcher) Stale() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == nil {
		return forever
	}
	return w.current()
}

// Run watches until ctx ends. It retries while Kafka is unavailable.
func (w *Watcher) Run(ctx context.Context) error {
	started := clock.Stopwatch()
	stale := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "convoflow_watcher_stale_seconds",
		Help:        "For how long this process may have missed events of the watched topic.",
		ConstLabels: prometheus.Labels{"service": w.tel.Service, "topic": w.topic},
	}, func() float64 { return min(w.Stale(), started()).Seconds() })
	if err := errors.Join(w.tel.Metrics.Register(w.delay), w.tel.Metrics.Register(stale)); err != nil {
		return fmt.Errorf("register the watcher's metrics: %w", err)
	}
	var readers sync.WaitGroup
	defer readers.Wait()
	var begins map[int]int64
	err := w.outage.forever(ctx, "start", func(ctx context.Context) (err error) {
		if err = w.kafka.ensure(ctx, w.kafka.topic(w.topic)); err == nil {
			begins, err = w.begins(ctx)
		}
		return err
	})
	if err != nil {
		return nil // only when ctx has ended
	}
	for followed := 0; ; {
		for ; followed < len(begins); followed++ {
			p, begin := followed, begins[followed]
			w.reached(p, begin)
			readers.Go(func() { w.follow(ctx, p, begin) })
		}
		if begins, err = w.await(ctx, followed); err != nil {
			return nil // only when ctx has ended
		}
	}
}

// begins returns the offset of the first event in the lookback period, by partition.
func (w *Watcher) begins(ctx context.Context) (map[int]int64, error) {
	since := w.clock.Now().Add(-w.lookback)
	// In this order, so that no event falls between the two.
	ends, err := w.kafka.offsets(ctx, w.topic, kafka.LastOffsetOf)
	if err != nil {
		return nil, err
	}
	begins, err := w.kafka.offsets(ctx, w.topic, func(p int) kafka.OffsetRequest { return kafka.TimeOffsetOf(p, since) })
	if err != nil {
		return nil, err
	}
	for p, begin := range begins {
		if begin < 0 { // nothing is that recent
			begins[p] = ends[p]
		}
	}
	return begins, nil
}

// await returns when the topic has more than n partitions, with the offsets to begin them at. Until then it measures how stale
// the watcher is. Its error is ctx.Err().
func (w *Watcher) await(ctx context.Context, n int) (begins map[int]int64, err error) {
	var ends map[int]int64
	var sinceFetch func() time.Duration
	for {
		if ends == nil || sinceFetch() > endsExpire {
			sinceFetch, ends = clock.Stopwatch(), nil
			if err = w.kafka.ensure(ctx, w.kafka.topic(w.topic)); err == nil {
				ends, err = w.kafka.offsets(ctx, w.topic, kafka.LastOffsetOf)
			}
			if err != nil {
				w.outage.fails(ctx, "check", err)
			} else {
				w.outage.works(ctx, "check")
			}
		}
		if len(ends) > n {
			begins, err = w.kafka.offsets(ctx, w.topic, kafka.FirstOffsetOf)
			if err == nil {
				return begins, nil
			}
		} else if ends != nil && w.handled(ends, sinceFetch) {
			ends = nil
			if wait(ctx, checkInterval) != nil {
				return nil, ctx.Err()
			}
			continue
		}
		if wait(ctx, retryFirst) != nil {
			return nil, ctx.Err()
		}
	}
}

// handled reports whether every event before the ends has been handled. Then the watcher was current when the ends were fetched.
func (w *Watcher) handled(ends map[int]int64, sinceFetch func() time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, end := range ends {
		if w.positions[p] < end {
			return false
		}
	}
	w.current = sinceFetch
	return true
}

// reached records that every event of a partition before an offset has been handled.
func (w *Watcher) reached(partition int, offset int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.positions[partition] = offset
}

// follow reads one partition from an offset on.
func (w *Watcher) follow(ctx context.Context, partition int, begin int64) {
	r := &reader{kafka: w.kafka, topic: w.topic, partition: partition, next: begin}
	for ctx.Err() == nil {
		var messages []kafka.Message
		err := w.outage.forever(ctx, r.name(), func(ctx context.Context) (err error) {
			if messages, err = r.fetch(ctx); err != nil {
				w.reached(partition, kafka.FirstOffset) // the topic may have been lost: then the offsets start again
			}
			return err
		})
		if err != nil {
			return // only when ctx has ended
		}
		for _, m := range messages {
			w.handle(ctx, m)
		}
		w.reached(partition, r.next)
	}
}

// handle passes a message to its handler. It skips one that cannot be decoded: the consumers of the topic dead-letter it.
func (w *Watcher) handle(ctx context.Context, m kafka.Message) {
	if m.Value == nil {
		return // a tombstone
	}
	h := w.handlers[header(m, "ce_type")]
	if h == nil {
		return
	}
	e, err := decode(m)
	if err == nil {
		err = h(e.Event)
	}
	if err != nil {
		w.tel.Log.WarnContext(ctx, "a watched event cannot be decoded", "topic", m.Topic, "partition", m.Partition, "offset", m.Offset, "error", err)
		return
	}
	w.delay.Set(w.clock.Now().Sub(e.Time).Seconds())
}
