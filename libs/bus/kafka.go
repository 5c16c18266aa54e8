// Package bus publishes events to Kafka and consumes them. It publishes from the outbox, and runs typed handlers behind the
// inbox. The envelope is CloudEvents 1.0 in Kafka's binary content mode. No other package imports kafka-go, and this one
// knows no event of the platform: its topics are a parameter of Connect.
package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
)

// Config says how to connect to Kafka.
type Config struct {
	Brokers    []string    `env:"KAFKA_BROKERS"`        // host:port, comma-separated
	Partitions int         `env:"KAFKA_PARTITIONS"`     // of the topics that Ensure creates
	TLS        bool        `env:"KAFKA_TLS"`            // verified with the system's root certificates
	Mechanism  string      `env:"KAFKA_SASL_MECHANISM"` // none, plain, scram-sha-256, scram-sha-512
	User       string      `env:"KAFKA_SASL_USER"`
	Password   conf.Secret `env:"KAFKA_SASL_PASSWORD"`
}

// Defaults has 6 partitions per topic: at most that many replicas of a service can share its work.
func Defaults() Config { return Config{Partitions: 6, Mechanism: "none"} }

// Check lists the problems with the configuration.
func (c Config) Check() []string {
	var problems []string
	if len(c.Brokers) == 0 {
		problems = append(problems, "KAFKA_BROKERS is not set: host:port, comma-separated")
	}
	for _, b := range c.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			problems = append(problems, "KAFKA_BROKERS must be host:port, comma-separated: "+b)
		}
	}
	if c.Partitions < 1 {
		problems = append(problems, "KAFKA_PARTITIONS must be 1 or more")
	}
	if _, err := c.mechanism(); err != nil {
		problems = append(problems, "KAFKA_SASL_MECHANISM: "+err.Error())
	}
	return problems
}

func (c Config) mechanism() (sasl.Mechanism, error) {
	switch strings.ToLower(c.Mechanism) {
	case "none":
		return nil, nil
	case "plain":
		return plain.Mechanism{Username: c.User, Password: c.Password.Reveal()}, nil
	case "scram-sha-256":
		return scram.Mechanism(scram.SHA256, c.User, c.Password.Reveal())
	case "scram-sha-512":
		return scram.Mechanism(scram.SHA512, c.User, c.Password.Reveal())
	default:
		return nil, errors.New("must be none, plain, scram-sha-256 or scram-sha-512")
	}
}

// Kafka is one service's connection to Kafka: one writer, one set of credentials. It is safe for concurrent use.
type Kafka struct {
	cfg       Config
	topics    []event.Topic
	transport *kafka.Transport
	dialer    *kafka.Dialer
	writer    *kafka.Writer
	ensured   atomic.Bool
}

// Limits of one batch for one partition. A broker accepts 1 MB by default.
const (
	batchMessages = 500
	batchBytes    = 1_000_000
)

// Connect prepares the connection. It does not wait for the broker, because a service keeps accepting writes while Kafka is
// unavailable. topics are all topics of the platform: Ensure creates the missing ones, and events of other topics are not
// consumed.
func Connect(cfg Config, topics []event.Topic) (*Kafka, error) {
	mechanism, err := cfg.mechanism()
	if err != nil {
		return nil, fmt.Errorf("configure SASL: %w", err)
	}
	var secure *tls.Config
	if cfg.TLS {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	transport := &kafka.Transport{DialTimeout: 3 * time.Second, MetadataTTL: 5 * time.Second, TLS: secure, SASL: mechanism}
	return &Kafka{
		cfg:       cfg,
		topics:    topics,
		transport: transport,
		dialer:    &kafka.Dialer{Timeout: 3 * time.Second, DualStack: true, TLS: secure, SASLMechanism: mechanism},
		// A zero Writer does not wait for acknowledgements and holds each batch for a second.
		writer: &kafka.Writer{
			Addr:         kafka.TCP(cfg.Brokers...),
			Transport:    transport,
			Balancer:     &kafka.Hash{},
			RequiredAcks: kafka.RequireAll,
			BatchSize:    batchMessages,
			BatchBytes:   batchBytes,
			BatchTimeout: 5 * time.Millisecond,
			MaxAttempts:  3,
			WriteTimeout: 10 * time.Second,
			ReadTimeout:  10 * time.Second,
		},
	}, nil
}

// Close flushes the writer and closes the connections.
func (k *Kafka) Close() {
	_ = k.writer.Close()
	k.transport.CloseIdleConnections()
}

// Ensure creates the platform's topics that do not exist yet.
func (k *Kafka) Ensure(ctx context.Context) error {
	if k.ensured.Load() {
		return nil
	}
	var configs []kafka.TopicConfig
	for _, t := range k.topics {
		configs = append(configs, k.topicConfig(t))
	}
	if err := k.create(ctx, configs...); err != nil {
		return err
	}
	k.ensured.Store(true)
	return nil
}

func (k *Kafka) topicConfig(t event.Topic) kafka.TopicConfig {
	entry := kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: fmt.Sprint(t.Retention.Milliseconds())}
	if t.Compacted {
		entry = kafka.ConfigEntry{ConfigName: "cleanup.policy", ConfigValue: "compact"}
	}
	// -1 means the brokers' default replication factor.
	return kafka.TopicConfig{Topic: t.Name, NumPartitions: k.cfg.Partitions, ReplicationFactor: -1, ConfigEntries: []kafka.ConfigEntry{entry}}
}

func (k *Kafka) create(ctx context.Context, configs ...kafka.TopicConfig) error {
	client := &kafka.Client{Addr: k.writer.Addr, Transport: k.transport, Timeout: 10 * time.Second}
	res, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: configs})
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

// Publish writes messages to Kafka, in order per key. It returns nil when every in-sync replica has all of them.
func (k *Kafka) Publish(ctx context.Context, messages []outbox.Message) error {
	if err := k.Ensure(ctx); err != nil {
		return err
	}
	var out []kafka.Message
	size := 0
	for _, m := range messages {
		next := encode(m)
		bytes := sizeOf(next)
		// Messages beyond one writer batch are written in a separate call: the writer continues with the second batch of a
		// partition when the first has failed, and the second would then precede the first.
		if len(out) == batchMessages || size+bytes > batchBytes {
			if err := k.write(ctx, out...); err != nil {
				return err
			}
			out, size = nil, 0
		}
		out, size = append(out, next), size+bytes
	}
	return k.write(ctx, out...)
}

// sizeOf is an upper bound of the bytes that a message takes in a batch.
func sizeOf(m kafka.Message) int {
	n := 64 + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		n += 16 + len(h.Key) + len(h.Value)
	}
	return n
}

func (k *Kafka) write(ctx context.Context, messages ...kafka.Message) error {
	err := k.writer.WriteMessages(ctx, messages...)
	var each kafka.WriteErrors
	if errors.As(err, &each) {
		for _, e := range each {
			if e != nil {
				return fmt.Errorf("%d of %d messages were not written: %w", each.Count(), len(messages), e)
			}
		}
	}
	return err
}
