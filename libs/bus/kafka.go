// Package bus publishes events to Kafka and consumes them. It publishes from the outbox, and runs typed handlers behind the
// inbox. The envelope is CloudEvents 1.0 in Kafka's binary content mode. No other package imports kafka-go, and this one
// knows no event of the platform: its topics are a parameter of Connect.
package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/convoflow/convoflow/libs/event"
)

// Kafka is one service's connection to Kafka: one pool of connections, one set of credentials. It is safe for concurrent use.
//
// Topics and groups have a prefix in Kafka (Config.Prefix). Everywhere else in this package a topic is named without it.
type Kafka struct {
	cfg       Config
	topics    []event.Topic
	transport *kafka.Transport
	dialer    *kafka.Dialer
	client    *kafka.Client
}

const (
	dialTimeout    = 3 * time.Second
	requestTimeout = 8 * time.Second // of every request that does not wait for messages
)

// Connect prepares the connection of the named service. It does not wait for the broker, because a service keeps accepting
// writes while Kafka is unavailable. topics are all topics of the platform. A topic is created when it is written or read and does
// not exist; events of other topics are not consumed.
func Connect(cfg Config, service string, topics []event.Topic) (*Kafka, error) {
	mechanism, err := cfg.mechanism()
	if err != nil {
		return nil, fmt.Errorf("configure SASL: %w", err)
	}
	secure, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	clientID := "convoflow-" + service
	transport := &kafka.Transport{ClientID: clientID, DialTimeout: dialTimeout, MetadataTTL: 5 * time.Second, TLS: secure, SASL: mechanism}
	return &Kafka{
		cfg:       cfg,
		topics:    topics,
		transport: transport,
		dialer:    &kafka.Dialer{ClientID: clientID, Timeout: dialTimeout, DualStack: true, TLS: secure, SASLMechanism: mechanism},
		client:    &kafka.Client{Addr: kafka.TCP(cfg.Brokers...), Transport: transport},
	}, nil
}

// Close closes the connections.
func (k *Kafka) Close() { k.transport.CloseIdleConnections() }

// name returns the name in Kafka of a topic or consumer group.
func (k *Kafka) name(topic string) string { return k.cfg.Prefix + topic }

// topic returns the settings of a topic by its name.
func (k *Kafka) topic(name string) event.Topic {
	for _, t := range k.topics {
		if t.Name == name {
			return t
		}
	}
	return event.Topic{Name: name, Retention: defaultRetention}
}

// defaultRetention is that of topics that are not in the catalog, which only tests have.
const defaultRetention = 7 * 24 * time.Hour

// ensure creates those of the topics that do not exist. Without Config.CreateTopics it fails and names them. While they exist it
// costs no request to Kafka: the cluster's metadata is cached for up to 5 s.
func (k *Kafka) ensure(ctx context.Context, topics ...event.Topic) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	existing, err := k.partitions(ctx, topics...)
	if err != nil {
		return err
	}
	var missing []kafka.TopicConfig
	var names []string
	for _, t := range topics {
		if existing[t.Name] == 0 {
			missing, names = append(missing, k.topicConfig(t)), append(names, k.name(t.Name))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if !k.cfg.CreateTopics {
		return fmt.Errorf("KAFKA_CREATE_TOPICS is false and there is no topic %s", strings.Join(names, ", "))
	}
	res, err := k.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: missing})
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	for name, err := range res.Errors {
		if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", name, err)
		}
	}
	return nil
}

func (k *Kafka) topicConfig(t event.Topic) kafka.TopicConfig {
	c := kafka.TopicConfig{Topic: k.name(t.Name), NumPartitions: k.cfg.Partitions, ReplicationFactor: -1} // the brokers' default
	if t.Partitions > 0 {
		c.NumPartitions = t.Partitions
	}
	set := func(name string, value any) {
		c.ConfigEntries = append(c.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: fmt.Sprint(value)})
	}
	if t.Compacted {
		set("cleanup.policy", "compact")
		set("max.compaction.lag.ms", compactionLag.Milliseconds())
	} else {
		set("retention.ms", t.Retention.Milliseconds())
	}
	if k.cfg.Replication > 0 {
		c.ReplicationFactor = k.cfg.Replication
	}
	// A write is acknowledged when all in-sync replicas have it. With two of three, one broker may fail without loss.
	if k.cfg.Replication >= 3 {
		set("min.insync.replicas", 2)
	}
	return c
}

// compactionLag is how long a compacted topic retains an old state of an aggregate at most, such as one that has been erased.
const compactionLag = 24 * time.Hour

// partitions returns how many partitions each of the topics has; none if it does not exist.
func (k *Kafka) partitions(ctx context.Context, topics ...event.Topic) (map[string]int, error) {
	var names []string
	for _, t := range topics {
		names = append(names, k.name(t.Name))
	}
	meta, err := k.client.Metadata(ctx, &kafka.MetadataRequest{Topics: names})
	if err != nil {
		return nil, fmt.Errorf("read the topics: %w", err)
	}
	found := map[string]int{}
	for _, t := range meta.Topics {
		found[strings.TrimPrefix(t.Name, k.cfg.Prefix)] = len(t.Partitions)
	}
	return found, nil
}

// lost reports whether err means that a topic does not exist.
func lost(err error) bool {
	return errors.Is(err, kafka.UnknownTopicOrPartition) || errors.Is(err, protocol.ErrNoTopic) || errors.Is(err, protocol.ErrNoPartition)
}

// offsets returns the first or the last offset of each partition, or that of the first message since a time, which is -1 if there
// is none. It fails if the topic does not exist.
func (k *Kafka) offsets(ctx context.Context, topic string, at func(partition int) kafka.OffsetRequest) (map[int]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	count, err := k.partitions(ctx, event.Topic{Name: topic})
	if err != nil {
		return nil, err
	}
	if count[topic] == 0 {
		return nil, fmt.Errorf("read the offsets of %s: %w", topic, kafka.UnknownTopicOrPartition)
	}
	var requests []kafka.OffsetRequest
	for p := range count[topic] {
		requests = append(requests, at(p))
	}
	res, err := k.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{k.name(topic): requests}})
	if err != nil {
		return nil, fmt.Errorf("read the offsets of %s: %w", topic, err)
	}
	found := map[int]int64{}
	for _, p := range res.Topics[k.name(topic)] {
		if p.Error != nil {
			return nil, fmt.Errorf("read the offsets of %s: %w", topic, p.Error)
		}
		found[p.Partition] = max(p.FirstOffset, p.LastOffset, newest(p.Offsets))
	}
	if len(found) != count[topic] {
		return nil, fmt.Errorf("read the offsets of %s: %d of %d partitions answered", topic, len(found), count[topic])
	}
	return found, nil
}

// committed returns the offsets that a consumer group has committed, by partition; -1 where it has none.
func (k *Kafka) committed(ctx context.Context, group, topic string, partitions []int) (map[int]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res, err := k.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: k.name(group), Topics: map[string][]int{k.name(topic): partitions}})
	if err == nil {
		err = res.Error
	}
	found := map[int]int64{}
	if errors.Is(err, kafka.GroupIdNotFound) { // it has never committed
		for _, p := range partitions {
			found[p] = -1
		}
		return found, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the committed offsets of %s: %w", topic, err)
	}
	for _, p := range res.Topics[k.name(topic)] {
		if p.Error != nil {
			return nil, fmt.Errorf("read the committed offsets of %s: %w", topic, p.Error)
		}
		found[p.Partition] = p.CommittedOffset
	}
	return found, nil
}

// newest returns the offset in the answer to a request by time: there is one, which is -1 if no message is that recent.
func newest(offsets map[int64]time.Time) int64 {
	result := int64(-1)
	for offset := range offsets {
		result = max(result, offset)
	}
	return result
}
