package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
)

// batchBytes limits one batch of a partition. A broker accepts 1 MB by default.
const batchBytes = 1_000_000

// balancer distributes keys like Java's and most other clients, so that a message that another tool writes gets to the partition
// of its key.
var balancer = kafka.Murmur2Balancer{}

// Publish writes messages of one topic to Kafka, in order per key. It returns the indexes of those that every in-sync replica has,
// and an error unless these are all. A message that is not acknowledged may have been written.
func (k *Kafka) Publish(ctx context.Context, topic string, messages []outbox.Message) (acknowledged []int, err error) {
	encoded := make([]kafka.Message, len(messages))
	for i, m := range messages {
		encoded[i] = encode(m)
	}
	return k.write(ctx, k.topic(topic), encoded)
}

// write writes messages to a topic, and creates the topic if it does not exist.
func (k *Kafka) write(ctx context.Context, topic event.Topic, messages []kafka.Message) (acknowledged []int, err error) {
	if err := k.ensure(ctx, topic); err != nil {
		return nil, err
	}
	count, err := k.partitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	n := count[topic.Name]
	if n == 0 {
		return nil, fmt.Errorf("write to %s: %w", topic.Name, kafka.UnknownTopicOrPartition)
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	indexes, batches := make([][]int, n), make([][]kafka.Message, n) // by partition
	for i, m := range messages {
		p := balancer.Balance(m, all...)
		indexes[p], batches[p] = append(indexes[p], i), append(batches[p], m)
	}
	written, errs := make([]int, n), make([]error, n)
	var writes sync.WaitGroup
	for p, batch := range batches {
		if len(batch) > 0 {
			writes.Go(func() { written[p], errs[p] = k.writePartition(ctx, topic.Name, p, batch) })
		}
	}
	writes.Wait()
	failed := 0
	for p, e := range errs {
		acknowledged = append(acknowledged, indexes[p][:written[p]]...)
		if e != nil {
			failed, err = failed+1, e
		}
	}
	if err != nil {
		return acknowledged, fmt.Errorf("%d of %d partitions of %s were not written: %w", failed, n, topic.Name, err)
	}
	return acknowledged, nil
}

// writePartition writes messages in order, in batches that a broker accepts, and returns how many are acknowledged. It stops at the
// first batch that fails: a later one must not precede it.
func (k *Kafka) writePartition(ctx context.Context, topic string, partition int, messages []kafka.Message) (written int, err error) {
	for written < len(messages) {
		n, size := 0, 0
		for _, m := range messages[written:] {
			if size += sizeOf(m); size > batchBytes && n > 0 {
				break
			}
			n++
		}
		if err := k.produceToLeader(ctx, topic, partition, messages[written:written+n]); err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// produceToLeader retries while the partition's leader is not known: it is elected after the topic has been created, and again when
// a broker fails.
func (k *Kafka) produceToLeader(ctx context.Context, topic string, partition int, batch []kafka.Message) error {
	took := clock.Stopwatch()
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		err := k.produce(ctx, topic, partition, batch)
		var refused kafka.Error
		if !errors.As(err, &refused) || refused != kafka.NotLeaderForPartition && refused != kafka.LeaderNotAvailable || took() > requestTimeout {
			return err
		}
		if wait(ctx, delay) != nil {
			return err
		}
	}
}

func (k *Kafka) produce(ctx context.Context, topic string, partition int, batch []kafka.Message) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	// The keys and values of records are streams: a request reads them to their end, and another needs new ones.
	records := make([]kafka.Record, len(batch))
	for i, m := range batch {
		records[i] = kafka.Record{Time: m.Time, Key: kafka.NewBytes(m.Key), Value: kafka.NewBytes(m.Value), Headers: m.Headers} // nil for nil
	}
	res, err := k.client.Produce(ctx, &kafka.ProduceRequest{
		Topic: k.name(topic), Partition: partition, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
	})
	if err != nil {
		return err
	}
	if res.Error != nil {
		return res.Error
	}
	for _, e := range res.RecordErrors {
		return e
	}
	return nil
}

// sizeOf is an upper bound of the bytes that a message takes in a batch.
func sizeOf(m kafka.Message) int {
	n := 64 + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		n += 16 + len(h.Key) + len(h.Value)
	}
	return n
}
