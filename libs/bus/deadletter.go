package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
)

// Headers that a message in a dead-letter topic has in addition to its own.
const (
	deadReason = "dead_reason" // the fault's code
	deadDetail = "dead_detail"
	deadTopic  = "dead_topic"  // the topic that the message was read from; requeued messages have it too
	deadSource = "dead_source" // topic/partition/offset
	deadAt     = "dead_at"
	deadSize   = "dead_size" // only if the payload was left out because the message was too large: its size in bytes
)

// DeadLetterTopic names the topic for the messages of topic that the consumer group cannot handle.
func DeadLetterTopic(topic, group string) string { return topic + "." + group + ".dlq" }

// RequeueTopic names the topic for dead-lettered messages that the consumer group, and no other, shall handle once more.
func RequeueTopic(group string) string { return group + ".requeue" }

const deadLetterRetention = 28 * 24 * time.Hour

func deadLetterTopic(topic, group string) event.Topic {
	return event.Topic{Name: DeadLetterTopic(topic, group), Retention: deadLetterRetention, Partitions: 1}
}

func requeueTopic(group string) event.Topic {
	return event.Topic{Name: RequeueTopic(group), Retention: deadLetterRetention, Partitions: 1}
}

// deadLetter moves a message to the dead-letter topic. It waits as long as Kafka cannot store it; its error is ctx.Err().
func (c *Consumer) deadLetter(ctx context.Context, m kafka.Message, f *fault.Error) error {
	source := fmt.Sprintf("%s/%d/%d", m.Topic, m.Partition, m.Offset)
	m = original(m)
	topic := deadLetterTopic(m.Topic, c.group)
	dead := kafka.Message{Key: m.Key, Value: m.Value, Headers: append(slices.Clone(m.Headers),
		kafka.Header{Key: deadReason, Value: []byte(f.Code)},
		kafka.Header{Key: deadDetail, Value: []byte(f.Detail)},
		kafka.Header{Key: deadTopic, Value: []byte(m.Topic)},
		kafka.Header{Key: deadSource, Value: []byte(source)},
		kafka.Header{Key: deadAt, Value: []byte(c.clock.Now().Format(time.RFC3339Nano))},
	)}
	err := c.moving.forever(ctx, topic.Name, func(ctx context.Context) error {
		_, err := c.kafka.write(ctx, topic, []kafka.Message{dead})
		if errors.Is(err, kafka.MessageSizeTooLarge) { // the headers made it larger than brokers accept; its source has the payload
			dead.Headers = append(dead.Headers, kafka.Header{Key: deadSize, Value: fmt.Append(nil, len(dead.Value))})
			dead.Value = nil
		}
		return err
	})
	if err != nil {
		return err
	}
	c.tel.Log.ErrorContext(ctx, "an event cannot be handled and was moved to the dead-letter topic", "topic", topic.Name, "source", source, "reason", f.Code, "error", f)
	c.handled.WithLabelValues(m.Topic, "dead").Inc()
	return nil
}

// original returns the message as it was on its own topic: without the headers of this package.
func original(m kafka.Message) kafka.Message {
	headers := []kafka.Header{}
	for _, h := range m.Headers {
		switch h.Key {
		case deadTopic:
			m.Topic = string(h.Value)
		case deadReason, deadDetail, deadSource, deadAt, deadSize:
		default:
			headers = append(headers, h)
		}
	}
	m.Headers = headers
	return m
}

// DeadLetter is a message in a dead-letter topic.
type DeadLetter struct {
	DeadLetterTopic string
	Offset          int64 // in the dead-letter topic
	Topic, Group    string
	Source          string // topic/partition/offset that the group read it from
	Reason, Detail  string
	At              time.Time
	Key             string
	Headers         map[string]string // as they were published
	Value           []byte
	WithoutPayload  bool // it was too large: Source has it
}

// requeued is the consumer group whose offset in a dead-letter topic is the end of the messages that have been requeued.
const requeued = "requeued"

// DeadLetterTopics lists the dead-letter topics, sorted.
func (k *Kafka) DeadLetterTopics(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	meta, err := k.client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return nil, fmt.Errorf("list the topics: %w", err)
	}
	var found []string
	for _, t := range meta.Topics {
		name, ours := strings.CutPrefix(t.Name, k.cfg.Prefix)
		if topic, _, err := deadLetterSource(name); err == nil && ours && slices.ContainsFunc(k.topics, func(t event.Topic) bool { return t.Name == topic }) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found, nil
}

// deadLetterSource is the inverse of DeadLetterTopic.
func deadLetterSource(name string) (topic, group string, err error) {
	source, ok := strings.CutSuffix(name, ".dlq")
	i := strings.LastIndex(source, ".")
	if !ok || i < 0 {
		return "", "", fmt.Errorf("%s is not a dead-letter topic: their names are <topic>.<service>.dlq", name)
	}
	return source[:i], source[i+1:], nil
}

// DeadLetters lists the messages of a dead-letter topic, oldest first: those that have not been requeued, or all.
func (k *Kafka) DeadLetters(ctx context.Context, topic string, all bool) ([]DeadLetter, error) {
	source, group, err := deadLetterSource(topic)
	if err != nil {
		return nil, err
	}
	ends, err := k.offsets(ctx, topic, kafka.LastOffsetOf)
	if lost(err) {
		return nil, fmt.Errorf("there is no topic %s", topic)
	}
	if err != nil {
		return nil, err
	}
	firsts, err := k.offsets(ctx, topic, kafka.FirstOffsetOf)
	if err != nil {
		return nil, err
	}
	next := firsts[0]
	if !all {
		committed, err := k.committed(ctx, requeued, topic, []int{0})
		if err != nil {
			return nil, err
		}
		next = max(next, committed[0])
	}
	var letters []DeadLetter
	for next < ends[0] {
		var messages []kafka.Message
		if messages, next, err = k.fetch(ctx, topic, 0, next, fetchBytes, time.Second); err != nil {
			return nil, err
		}
		for _, m := range messages {
			h := headers(m)
			at, _ := time.Parse(time.RFC3339Nano, h[deadAt]) // zero if another tool wrote the message
			letters = append(letters, DeadLetter{
				DeadLetterTopic: topic, Offset: m.Offset, Topic: source, Group: group, Source: h[deadSource], Reason: h[deadReason], Detail: h[deadDetail],
				At: at, Key: string(m.Key), Headers: headers(original(m)), Value: m.Value, WithoutPayload: h[deadSize] != "",
			})
		}
	}
	return letters, nil
}

// Requeue gives messages to the consumer group that dead-lettered them, and to no other group. The inbox of the group ignores
// those that it has handled meanwhile. When upTo is positive, the messages of the dead-letter topic before that offset count as
// requeued from now on.
func (k *Kafka) Requeue(ctx context.Context, topic string, letters []DeadLetter, upTo int64) error {
	source, group, err := deadLetterSource(topic)
	if err != nil {
		return err
	}
	var messages []kafka.Message
	for _, d := range letters {
		if d.WithoutPayload {
			return fmt.Errorf("the message with offset %d was too large for its dead-letter topic: its payload is only at %s", d.Offset, d.Source)
		}
		m := kafka.Message{Key: []byte(d.Key), Value: d.Value, Headers: []kafka.Header{{Key: deadTopic, Value: []byte(source)}}}
		for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
			m.Headers = append(m.Headers, kafka.Header{Key: name, Value: []byte(d.Headers[name])})
		}
		messages = append(messages, m)
	}
	if _, err := k.write(ctx, requeueTopic(group), messages); err != nil {
		return err
	}
	if upTo <= 0 {
		return nil
	}
	if err := k.commit(ctx, requeued, map[string][]kafka.OffsetCommit{k.name(topic): {{Partition: 0, Offset: upTo}}}); err != nil {
		return fmt.Errorf("record that the messages have been requeued: %w", err)
	}
	return nil
}
