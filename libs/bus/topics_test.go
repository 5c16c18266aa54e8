package bus_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/event/eventtest"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// deleteTopic deletes a topic, as an operator does by mistake.
func (s service) deleteTopic(t *testing.T, topic string) {
	t.Helper()
	admin := &kafka.Client{Addr: kafka.TCP(s.brokers...)}
	res, err := admin.DeleteTopics(t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	require.NoError(t, err)
	require.NoError(t, res.Errors[topic])
}

func TestALostTopicIsCreatedAgainAndConsumed(t *testing.T) {
	t.Parallel()
	s := start(t)
	c, _, _ := s.observed(t, "test", s.apply)
	var events recorder
	w := bus.NewWatcher(s.kafka, eventtest.ThingsTopic, time.Hour, clock.System{}, telemetry.Nop())
	bus.Watch(w, eventtest.ThingChanged, events.on)
	s.run(t, s.outbox.Relay(s.kafka), c, w)
	id := event.NewID()
	for i := range 3 {
		s.publish(t, client(id, fmt.Sprint("before ", i), int64(i)))
	}
	s.await(t, 3)
	require.Eventually(t, func() bool { return len(events.received()) == 3 }, time.Minute, time.Millisecond, "before the topic is lost")
	s.deleteTopic(t, eventtest.ThingsTopic)
	for i := range 3 {
		s.publish(t, client(id, fmt.Sprint("after ", i), int64(i)))
	}
	require.Equal(t, []string{"after 0", "after 1", "after 2"}, s.await(t, 6)[3:])
	require.Eventually(t, func() bool { return len(events.received()) >= 6 }, time.Minute, time.Millisecond, "the watcher as well, perhaps more than once")
	require.Eventually(t, func() bool { return w.Stale() < time.Minute }, time.Minute, time.Millisecond)
}

func TestATopicIsLostAndFilledAgainWhileAHandlerRetries(t *testing.T) {
	t.Parallel()
	s := start(t)
	entered, release := make(chan struct{}), make(chan struct{})
	enter := sync.OnceFunc(func() { close(entered) })
	c, _, _ := s.observed(t, "test", func(ctx context.Context, e event.Received[eventtest.Thing]) error {
		if e.Data.Name == "before 2" {
			enter()
			<-release
		}
		return s.apply(ctx, e)
	})
	s.run(t, s.outbox.Relay(s.kafka), c)
	id := event.NewID()
	for i := range 3 {
		s.publish(t, client(id, fmt.Sprint("before ", i), int64(i)))
	}
	<-entered
	s.deleteTopic(t, eventtest.ThingsTopic)
	require.NoError(t, s.kafka.Ensure(t.Context()))
	for i := range 5 {
		s.publish(t, client(id, fmt.Sprint("after ", i), int64(3+i)))
	}
	require.Eventually(t, func() bool { return s.unpublished(t) == 0 }, time.Minute, 10*time.Millisecond)
	blocked := clock.Stopwatch()
	require.Eventually(t, func() bool { return blocked() > 2*time.Second }, time.Minute, 10*time.Millisecond)
	close(release)
	require.Equal(t, []string{"after 0", "after 1", "after 2", "after 3", "after 4"}, s.await(t, 8)[3:])
}

func TestAWatcherOfALostTopicIsStale(t *testing.T) {
	t.Parallel()
	s := start(t)
	cfg := config(s.brokers, 3)
	require.NoError(t, s.kafka.Ensure(t.Context()))
	cfg.CreateTopics = false // so that nobody creates it again
	k, err := bus.Connect(cfg, "test", eventtest.Topics())
	require.NoError(t, err)
	t.Cleanup(k.Close)
	w := bus.NewWatcher(k, eventtest.ThingsTopic, time.Hour, clock.System{}, telemetry.Nop())
	bus.Watch(w, eventtest.ThingChanged, (&recorder{}).on)
	s.run(t, w)
	require.Eventually(t, func() bool { return current(w) }, time.Minute, time.Millisecond)
	s.deleteTopic(t, eventtest.ThingsTopic)
	require.Eventually(t, func() bool { return w.Stale() > 8*time.Second }, time.Minute, 10*time.Millisecond)
	require.ErrorContains(t, k.Ensure(t.Context()), "KAFKA_CREATE_TOPICS is false and there is no topic test.things.v1")
	require.NoError(t, s.kafka.Ensure(t.Context()))
	require.Eventually(t, func() bool { return w.Stale() < 5*time.Second }, time.Minute, 10*time.Millisecond)
}

// Java's default partitioner puts these keys into these partitions of 100: murmur2 of the key, from Kafka's UtilsTest.
func TestKeysArePartitionedAsByOtherClients(t *testing.T) {
	t.Parallel()
	brokers := bustest.Broker(t)
	k, err := bus.Connect(config(brokers, 100), "test", eventtest.Topics())
	require.NoError(t, err)
	t.Cleanup(k.Close)
	positive := func(hash int32) int { return int(uint32(hash)&0x7fffffff) % 100 }
	want := map[string]int{"21": positive(-973932308), "foobar": positive(-790332482), "a-little-bit-long-string": positive(-985981536)}
	var messages []outbox.Message
	for key := range want {
		e := client(key, key, 1)
		messages = append(messages, outbox.Message{Event: e})
	}
	bustest.Publish(t, k, eventtest.ThingsTopic, messages)
	got := map[string]int{}
	for key, p := range want {
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: brokers, Topic: eventtest.ThingsTopic, Partition: p, MaxWait: 100 * time.Millisecond})
		m, err := reader.ReadMessage(t.Context())
		require.NoError(t, err, key)
		got[string(m.Key)] = m.Partition
		require.NoError(t, reader.Close())
	}
	require.Equal(t, want, got)
}

func TestTopicsAndGroupsHaveThePrefix(t *testing.T) {
	t.Parallel()
	s := start(t)
	cfg := config(s.brokers, 2)
	cfg.Prefix = "staging."
	var err error
	s.kafka, err = bus.Connect(cfg, "test", eventtest.Topics())
	require.NoError(t, err)
	t.Cleanup(s.kafka.Close)
	c, _, _ := s.observed(t, "test", func(ctx context.Context, e event.Received[eventtest.Thing]) error {
		if e.Data.Name == "poison" {
			return fault.New(fault.Invalid, "poison", "Poison")
		}
		return s.apply(ctx, e)
	})
	s.run(t, s.outbox.Relay(s.kafka), c)
	s.publish(t, client(event.NewID(), "poison", 1), client(event.NewID(), "good", 1))
	require.Equal(t, []string{"good"}, s.await(t, 1))
	bustest.Read(t, s.brokers, "staging.test.things.v1.test.dlq", 1)
	bustest.Read(t, s.brokers, "staging.test.things.v1", 2)
	admin := &kafka.Client{Addr: kafka.TCP(s.brokers...)}
	res, err := admin.DescribeGroups(t.Context(), &kafka.DescribeGroupsRequest{GroupIDs: []string{"staging.test"}})
	require.NoError(t, err)
	require.Len(t, res.Groups[0].Members, 1)
	require.Equal(t, "convoflow-test", res.Groups[0].Members[0].ClientID)
}

// publishToNewPartition adds a partition to the three of a topic and writes an event to it.
func (s service) publishToNewPartition(t *testing.T, e event.Event) {
	t.Helper()
	admin := &kafka.Client{Addr: kafka.TCP(s.brokers...)}
	res, err := admin.CreatePartitions(t.Context(), &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: e.Topic, Count: 4}}})
	require.NoError(t, err)
	require.NoError(t, res.Errors[e.Topic])
	writer := &kafka.Writer{Addr: kafka.TCP(s.brokers...), Topic: e.Topic, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond, Balancer: kafka.BalancerFunc(func(kafka.Message, ...int) int { return 3 })}
	t.Cleanup(func() { _ = writer.Close() })
	m := kafka.Message{Key: []byte(e.Key), Value: e.Data, Headers: []kafka.Header{
		{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(e.ID)}, {Key: "ce_type", Value: []byte(e.Type)}, {Key: "ce_time", Value: []byte("2026-11-24T09:00:00Z")},
	}}
	require.Eventually(t, func() bool { return writer.WriteMessages(t.Context(), m) == nil }, time.Minute, 10*time.Millisecond, "once the client knows the partition")
}

func TestAWatcherFollowsPartitionsThatAreAdded(t *testing.T) {
	t.Parallel()
	s := start(t)
	var events recorder
	w := bus.NewWatcher(s.kafka, eventtest.ThingsTopic, time.Hour, clock.System{}, telemetry.Nop())
	bus.Watch(w, eventtest.ThingChanged, events.on)
	s.run(t, w)
	require.Eventually(t, func() bool { return current(w) }, time.Minute, time.Millisecond)
	added := client(event.NewID(), "in the new partition", 1)
	s.publishToNewPartition(t, added)
	require.Eventually(t, func() bool { return len(events.received()) > 0 }, time.Minute, time.Millisecond)
	require.Equal(t, []string{added.Key}, events.received())
	require.Eventually(t, func() bool { return w.Stale() < 5*time.Second }, time.Minute, time.Millisecond, "it follows all partitions")
}

func TestTopicsAreCreatedAsTheSettingsSay(t *testing.T) {
	t.Parallel()
	brokers, err := kfake.NewCluster(kfake.NumBrokers(3))
	require.NoError(t, err)
	t.Cleanup(brokers.Close)
	cfg := config(brokers.ListenAddrs(), 5)
	cfg.Replication = 3
	k, err := bus.Connect(cfg, "test", []event.Topic{{Name: "compacted", Compacted: true}, {Name: "events", Retention: time.Hour}})
	require.NoError(t, err)
	t.Cleanup(k.Close)
	require.NoError(t, k.Ensure(t.Context()))
	admin := &kafka.Client{Addr: kafka.TCP(brokers.ListenAddrs()...)}
	meta, err := admin.Metadata(t.Context(), &kafka.MetadataRequest{Topics: []string{"compacted", "events"}})
	require.NoError(t, err)
	for _, topic := range meta.Topics {
		require.Len(t, topic.Partitions, 5)
		require.Len(t, topic.Partitions[0].Replicas, 3)
	}
	settings := func(topic string) map[string]string {
		res, err := admin.DescribeConfigs(t.Context(), &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}}})
		require.NoError(t, err)
		found := map[string]string{}
		for _, entry := range res.Resources[0].ConfigEntries {
			found[entry.ConfigName] = entry.ConfigValue
		}
		return found
	}
	compacted, retained := settings("compacted"), settings("events")
	require.Equal(t, "compact", compacted["cleanup.policy"])
	require.Equal(t, "86400000", compacted["max.compaction.lag.ms"], "a day")
	require.Equal(t, "3600000", retained["retention.ms"])
	require.Equal(t, "2", compacted["min.insync.replicas"])
	require.Equal(t, "2", retained["min.insync.replicas"])
}

func TestPartitionsThatAreAddedAreConsumed(t *testing.T) {
	t.Parallel()
	s := start(t)
	c, _, _ := s.observed(t, "test", s.apply)
	s.run(t, c)
	bustest.Publish(t, s.kafka, eventtest.ThingsTopic, []outbox.Message{{Event: client(event.NewID(), "before", 1)}})
	require.Equal(t, []string{"before"}, s.await(t, 1))
	s.publishToNewPartition(t, client(event.NewID(), "in the new partition", 1))
	require.Equal(t, []string{"before", "in the new partition"}, s.await(t, 2))
}

// Another topic that does not exist and cannot be created stops neither the producer nor the consumer.
func TestATopicThatIsMissingBlocksOnlyItself(t *testing.T) {
	t.Parallel()
	s := start(t)
	require.NoError(t, s.kafka.Ensure(t.Context()))
	cfg := config(s.brokers, 3)
	cfg.CreateTopics = false
	topics := append(eventtest.Topics(), event.Topic{Name: "test.absent.v1", Retention: time.Hour, Types: []string{"absent.changed"}})
	var err error
	s.kafka, err = bus.Connect(cfg, "test", topics)
	require.NoError(t, err)
	t.Cleanup(s.kafka.Close)
	absent := event.Type[eventtest.Thing]{Name: "absent.changed", Topic: "test.absent.v1"}
	c, _, _ := s.observed(t, "test", s.apply) // its requeue topic does not exist either
	bus.On(c, s.apply, absent)
	s.run(t, s.outbox.Relay(s.kafka), c)
	id := event.NewID()
	s.publish(t, absent.New(at, eventtest.Thing{ID: id, Name: "waits", Version: 1}), client(id, "goes on", 1))
	require.Equal(t, []string{"goes on"}, s.await(t, 1))

	// An operator creates it.
	operator, err := bus.Connect(config(s.brokers, 1), "test", topics)
	require.NoError(t, err)
	t.Cleanup(operator.Close)
	require.NoError(t, operator.Ensure(t.Context()))
	require.Equal(t, []string{"goes on", "waits"}, s.await(t, 2))
}

func TestAPartitionThatIsUnavailableDelaysOnlyItsKeys(t *testing.T) {
	t.Parallel()
	s := start(t)
	c, k := cluster(t, 2)
	s.kafka, s.brokers = k, c.ListenAddrs()
	var repaired atomic.Bool
	refuse(c, notEnoughReplicas, func(_ string, p kmsg.ProduceRequestTopicPartition) bool { return !repaired.Load() && p.Partition == 0 })
	left := func() (n int) {
		require.NoError(t, s.db.Pool().QueryRow(t.Context(), `select count(*) from outbox`).Scan(&n))
		return n
	}
	s.run(t, s.outbox.Relay(s.kafka))
	total := 1200 // more than two batches, so that the events of partition 0 fill one
	var events []event.Event
	for range total {
		events = append(events, client(event.NewID(), "x", 1))
	}
	s.publish(t, events...)
	partition0 := 0
	for _, e := range events {
		if (kafka.Murmur2Balancer{}).Balance(kafka.Message{Key: []byte(e.Key)}, 0, 1) == 0 {
			partition0++
		}
	}
	require.Greater(t, partition0, 500)
	require.Eventually(t, func() bool { return left() == partition0 }, time.Minute, 10*time.Millisecond, "the others are published, and deleted from the outbox")
	repaired.Store(true)
	require.Eventually(t, func() bool { return left() == 0 }, time.Minute, 10*time.Millisecond)
}
