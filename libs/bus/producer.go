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

// Publish writes messages of one topic to Kafka, in order per key. It returns nil when every in-sync replica has all of them;
// after an error any of them may have been written.
func (k *Kafka) Publish(ctx context.Context, topic string, messages []outbox.Message) error {
	encoded := make([]kafka.Message, len(messages))
	for i, m := range messages {
		encoded[i] = encode(m)
	}
	return k.write(ctx, event.Topic{Name: topic}, encoded)
}

// write writes messages to a topic. It creates the topic when a write has failed because there is none.
func (k *Kafka) write(ctx context.Context, topic event.Topic, messages []kafka.Message) error {
	if !k.exists.Load() {
		if err := k.Ensure(ctx); err != nil {
			return err
		}
		k.exists.Store(true)
	}
	count, err := k.partitions(ctx, topic)
	if err != nil {
		return err
	}
	n := count[topic.Name]
	if n == 0 {
		k.exists.Store(false)
		return fmt.Errorf("write to %s: %w", topic.Name, kafka.UnknownTopicOrPartition)
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	byPartition := make([][]kafka.Message, n)
	for _, m := range messages {
		p := balancer.Balance(m, all...)
		byPartition[p] = append(byPartition[p], m)
	}
	errs := make([]error, n)
	var writes sync.WaitGroup
	for p, batch := range byPartition {
		if len(batch) > 0 {
			writes.Go(func() { errs[p] = k.writePartition(ctx, topic.Name, p, batch) })
		}
	}
	writes.Wait()
	failed := 0
	for _, e := range errs {
		if e != nil {
			failed, err = failed+1, e
		}
		if lost(e) {
			k.exists.Store(false)
		}
	}
	if err != nil {
		return fmt.Errorf("%d of %d partitions of %s were not written: %w", failed, n, topic.Name, err)
	}
	return nil
}

// writePartition writes messages in order, in batches that a broker accepts. It stops at the first batch that fails: a later one
// must not precede it.
func (k *Kafka) writePartition(ctx context.Context, topic string, partition int, messages []kafka.Message) error {
	for len(messages) > 0 {
		var records []kafka.Record
		size := 0
		for _, m := range messages {
			if size += sizeOf(m); size > batchBytes && len(records) > 0 {
				break
			}
			r := kafka.Record{Time: m.Time, Key: kafka.NewBytes(m.Key), Headers: m.Headers}
			if m.Value != nil {
				r.Value = kafka.NewBytes(m.Value)
			}
			records = append(records, r)
		}
		if err := k.produceToLeader(ctx, topic, partition, records); err != nil {
			return err
		}
		messages = messages[len(records):]
	}
	return nil
}

// produceToLeader retries while the partition's leader is not known: it is elected after the topic has been created, and again when
// a broker fails.
func (k *Kafka) produceToLeader(ctx context.Context, topic string, partition int, records []kafka.Record) error {
	took := clock.Stopwatch()
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		err := k.produce(ctx, topic, partition, records)
		var refused kafka.Error
		if !errors.As(err, &refused) || refused != kafka.NotLeaderForPartition && refused != kafka.LeaderNotAvailable || took() > requestTimeout {
			return err
		}
		if wait(ctx, delay) != nil {
			return err
		}
	}
}

func (k *Kafka) produce(ctx context.Context, topic string, partition int, records []kafka.Record) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
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
