package bus

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/convoflow/convoflow/libs/clock"
)

// reader reads one partition. It is not safe for concurrent use.
type reader struct {
	kafka     *Kafka
	topic     string
	partition int
	next      int64 // offset of the next message, or kafka.FirstOffset
	// last identifies the message before next, once one has been read. The topic may have been lost and created again since; then
	// next would skip the first messages of the new one. When a topic is deleted, the broker fails the
	// fetches that wait for its messages. So last is checked only after an error, and after verifyAfter without a fetch.
	last   identity
	failed bool                 // the last fetch
	idle   func() time.Duration // time since the last fetch ended; nil before the first one
}

// identity identifies a message at an offset.
type identity [sha256.Size]byte

func identify(m kafka.Message) identity {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%d %d %q ", m.Offset, m.Time.UnixMilli(), m.Key) // a hash does not fail
	_, _ = h.Write(m.Value)
	return identity(h.Sum(nil))
}

const (
	fetchWait    = 5 * time.Second // how long a broker waits for a message before it answers that there is none
	fetchTimeout = 5 * time.Second // how long the answer may take beyond that
	fetchBytes   = 512 << 10       // per partition; a larger message is returned alone
	verifyAfter  = time.Second     // without a fetch, as while a handler retries: too short to create a topic again and fill it
)

// name names the partition for logs.
func (r *reader) name() string { return fmt.Sprintf("%s/%d", r.topic, r.partition) }

// fetch returns the next messages. It waits up to 5 s for the first, and then returns none. When the offset does not exist any
// more, because of the retention or because the topic was lost and created again, the next fetch reads from the first message.
func (r *reader) fetch(ctx context.Context) ([]kafka.Message, error) {
	messages, err := r.fetchNext(ctx)
	r.failed, r.idle = err != nil, clock.Stopwatch()
	if errors.Is(err, kafka.OffsetOutOfRange) || lost(err) {
		r.next = kafka.FirstOffset
	}
	return messages, err
}

func (r *reader) fetchNext(ctx context.Context) ([]kafka.Message, error) {
	if (r.failed || r.idle != nil && r.idle() > verifyAfter) && r.next > 0 && r.last != (identity{}) {
		before, _, err := r.kafka.fetch(ctx, r.topic, r.partition, r.next-1, 1, time.Second)
		if err != nil {
			return nil, err
		}
		// Compaction may have removed the message; then the first one is a later one.
		if len(before) == 0 || before[0].Offset == r.next-1 && identify(before[0]) != r.last {
			r.next = kafka.FirstOffset
		}
	}
	if r.next < 0 {
		first, err := r.kafka.offsets(ctx, r.topic, kafka.FirstOffsetOf)
		if err != nil {
			return nil, err
		}
		r.next, r.last = first[r.partition], identity{}
	}
	messages, next, err := r.kafka.fetch(ctx, r.topic, r.partition, r.next, fetchBytes, fetchWait)
	if err != nil {
		return nil, err
	}
	if len(messages) > 0 {
		r.last = identify(messages[len(messages)-1])
	}
	r.next = next
	return messages, nil
}

// fetch returns messages from an offset on, and the offset to fetch from next.
func (k *Kafka) fetch(ctx context.Context, topic string, partition int, offset, maxBytes int64, maxWait time.Duration) (messages []kafka.Message, next int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, maxWait+fetchTimeout)
	defer cancel()
	res, err := k.client.Fetch(ctx, &kafka.FetchRequest{
		Topic: k.name(topic), Partition: partition, Offset: offset, MinBytes: 1, MaxBytes: maxBytes, MaxWait: maxWait,
	})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return nil, offset, fmt.Errorf("fetch %s/%d from offset %d: %w", topic, partition, offset, err)
	}
	for empty := true; ; empty = false {
		record, err := res.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			if !empty && len(messages) == 0 {
				// Compaction has removed the message at this offset, and the batch ends here. Its end is not known.
				return nil, offset + 1, nil
			}
			return messages, offset, nil
		}
		if err != nil {
			return nil, offset, fmt.Errorf("read a record of %s/%d: %w", topic, partition, err)
		}
		m := kafka.Message{Topic: topic, Partition: partition, Offset: record.Offset, Time: record.Time, Headers: record.Headers}
		if m.Key, err = readAll(record.Key); err == nil {
			m.Value, err = readAll(record.Value)
		}
		if err != nil {
			return nil, offset, fmt.Errorf("read a record of %s/%d: %w", topic, partition, err)
		}
		if m.Offset >= offset { // a batch may begin before the offset
			messages, offset = append(messages, m), m.Offset+1
		}
	}
}

// readAll returns the bytes of a key or value, which may be nil, and releases them.
func readAll(b kafka.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	defer func() { _ = b.Close() }()
	return kafka.ReadAll(b)
}
