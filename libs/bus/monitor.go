package bus

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
)

const (
	monitorInterval = 3 * time.Second
	uncoveredChecks = 2 // consecutive checks that must find a partition without a member: a rebalance may be in progress
)

// monitor creates topics that were lost and measures the lag. It returns when ctx ends, when other topics exist than those that the
// group was joined with, or when a partition belongs to no member of the group. After a topic or partition has been created, no
// rebalance follows by itself.
func (c *Consumer) monitor(ctx context.Context, topics []string) {
	for uncovered := 0; uncovered < uncoveredChecks; {
		if wait(ctx, monitorInterval) != nil {
			return
		}
		existing := c.existing(ctx)
		c.measureLag(ctx, existing)
		covered, err := c.covered(ctx, topics)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // Kafka is unavailable, or a topic has just been lost
			c.joining.fails(ctx, "monitor", err)
			continue
		case len(existing) > 0 && !slices.Equal(existing, topics):
			c.tel.Log.WarnContext(ctx, "other topics exist than before, rejoining the consumer group", "topics", existing)
			return
		case covered:
			uncovered = 0
		default:
			uncovered++
		}
		c.joining.works(ctx, "monitor")
	}
	c.tel.Log.WarnContext(ctx, "a partition belongs to no member of the consumer group, rejoining it")
}

// covered reports whether each partition of the topics belongs to a member of the group. It does not know while the group is
// rebalancing or has no members, and then reports true.
func (c *Consumer) covered(ctx context.Context, names []string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var topics []event.Topic
	for _, name := range names {
		topics = append(topics, event.Topic{Name: name})
	}
	counts, err := c.kafka.partitions(ctx, topics...)
	if err != nil {
		return false, err
	}
	res, err := c.kafka.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{c.kafka.name(c.group)}})
	if err != nil {
		return false, fmt.Errorf("describe the consumer group: %w", err)
	}
	assigned := map[string]int{} // number of partitions
	for _, g := range res.Groups {
		if g.Error != nil {
			return false, fmt.Errorf("describe the consumer group: %w", g.Error)
		}
		if g.GroupState != "Stable" {
			return true, nil
		}
		for _, member := range g.Members {
			for _, t := range member.MemberAssignments.Topics {
				assigned[t.Topic] += len(t.Partitions)
			}
		}
	}
	for topic, n := range counts {
		if assigned[c.kafka.name(topic)] < n {
			return false, nil
		}
	}
	return true, nil
}

// measureLag measures how many messages of each topic the group has not handled, and when the oldest was published.
func (c *Consumer) measureLag(ctx context.Context, topics []string) {
	for _, topic := range topics {
		if err := c.measureTopic(ctx, topic); err != nil {
			c.measuring.fails(ctx, topic, err)
		} else {
			c.measuring.works(ctx, topic)
		}
	}
}

func (c *Consumer) measureTopic(ctx context.Context, topic string) error {
	backlog, oldest, err := c.kafka.backlog(ctx, c.group, topic)
	if err == nil {
		c.lag.set(topic, backlog, oldest)
	}
	return err
}

// backlog returns how many messages of a topic a group has not handled, and when the oldest of them was published.
func (k *Kafka) backlog(ctx context.Context, group, topic string) (backlog int64, oldest time.Time, err error) {
	ends, err := k.offsets(ctx, topic, kafka.LastOffsetOf)
	if err != nil {
		return 0, oldest, err
	}
	firsts, err := k.offsets(ctx, topic, kafka.FirstOffsetOf)
	if err != nil {
		return 0, oldest, err
	}
	committed, err := k.committed(ctx, group, topic, slices.Collect(maps.Keys(ends)))
	if err != nil {
		return 0, oldest, err
	}
	for p, end := range ends {
		next := max(committed[p], firsts[p])
		if next >= end {
			continue
		}
		backlog += end - next
		messages, _, err := k.fetch(ctx, topic, p, next, 1, time.Second)
		if err != nil {
			return 0, oldest, err
		}
		if len(messages) > 0 && (oldest.IsZero() || messages[0].Time.Before(oldest)) {
			oldest = messages[0].Time
		}
	}
	return backlog, oldest, nil
}

// lag is the collector of a group's lag. While Kafka cannot be reached, the age of the oldest message continues to grow.
type lag struct {
	clock   clock.Clock
	seconds *prometheus.Desc
	count   *prometheus.Desc

	mu     sync.Mutex
	topics map[string]topicLag
}

type topicLag struct {
	backlog int64
	oldest  time.Time // when the oldest message that is not handled was published; zero if there is none
}

func newLag(service string, c clock.Clock) *lag {
	labels := prometheus.Labels{"service": service}
	return &lag{
		clock:   c,
		seconds: prometheus.NewDesc("convoflow_consumer_lag_seconds", "Age of the oldest message that the group has not handled. All replicas report the whole group.", []string{"topic"}, labels),
		count:   prometheus.NewDesc("convoflow_consumer_lag_messages", "Messages that the group has not handled. All replicas report the whole group.", []string{"topic"}, labels),
		topics:  map[string]topicLag{},
	}
}

func (l *lag) set(topic string, backlog int64, oldest time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[topic] = topicLag{backlog, oldest}
}

// Describe implements prometheus.Collector.
func (l *lag) Describe(ch chan<- *prometheus.Desc) { ch <- l.seconds; ch <- l.count }

// Collect implements prometheus.Collector.
func (l *lag) Collect(ch chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	for topic, t := range l.topics {
		age := 0.0
		if !t.oldest.IsZero() {
			age = max(0, now.Sub(t.oldest).Seconds())
		}
		ch <- prometheus.MustNewConstMetric(l.seconds, prometheus.GaugeValue, age, topic)
		ch <- prometheus.MustNewConstMetric(l.count, prometheus.GaugeValue, float64(t.backlog), topic)
	}
}
