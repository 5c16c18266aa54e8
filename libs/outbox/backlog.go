package outbox

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/convoflow/convoflow/libs/clock"
)

// backlog is the collector of the age of the oldest event that is not published. Only the leading replica has a value. It
// continues to grow while the outbox cannot be read.
type backlog struct {
	desc *prometheus.Desc

	mu      sync.Mutex
	leading bool
	topics  map[string]func() time.Duration // age of the oldest event
}

func newBacklog(service string) *backlog {
	return &backlog{
		desc:   prometheus.NewDesc("convoflow_outbox_oldest_seconds", "Age of the oldest event that is not published yet. Only the leading replica reports it.", nil, prometheus.Labels{"service": service}),
		topics: map[string]func() time.Duration{},
	}
}

// lead begins or ends the time in which this replica has a value.
func (b *backlog) lead(leading bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leading = leading
	clear(b.topics)
}

// set records the age of a topic's oldest event.
func (b *backlog) set(topic string, age time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	since := clock.Stopwatch()
	b.topics[topic] = func() time.Duration { return age + since() }
}

// clear records that a topic has no events.
func (b *backlog) clear(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.topics, topic)
}

// Describe implements prometheus.Collector.
func (b *backlog) Describe(ch chan<- *prometheus.Desc) { ch <- b.desc }

// Collect implements prometheus.Collector.
func (b *backlog) Collect(ch chan<- prometheus.Metric) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.leading {
		return
	}
	var oldest time.Duration
	for _, age := range b.topics {
		oldest = max(oldest, age())
	}
	ch <- prometheus.MustNewConstMetric(b.desc, prometheus.GaugeValue, oldest.Seconds())
}
