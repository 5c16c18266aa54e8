package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus/testutil"
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
	"github.com/convoflow/convoflow/libs/inbox"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/libs/telemetry/telemetrytest"
)

// observed returns a consumer with its log and metrics.
func (s service) observed(t *testing.T, group string, handle func(context.Context, event.Received[eventtest.Thing]) error) (*bus.Consumer, telemetry.Set, *telemetrytest.Log) {
	t.Helper()
	log := &telemetrytest.Log{}
	tel := telemetry.Nop()
	tel.Log = slog.New(slog.NewJSONHandler(log, nil))
	chain, err := op.NewChain(tel, pg.Classify)
	require.NoError(t, err)
	c := bus.NewConsumer(s.kafka, group, inbox.New(s.db), chain, clock.System{}, tel)
	bus.On(c, handle, eventtest.ThingChanged)
	return c, tel, log
}

func sqlError(code string) error { return fmt.Errorf("insert: %w", &pgconn.PgError{Code: code}) }

// Everything but what can never succeed waits, as long as it takes.
func TestOnlyWhatCanNeverSucceedIsDeadLettered(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"a role that cannot log in":  sqlError("28000"),
		"a database that is missing": sqlError("3D000"),
		"a table that is missing":    sqlError("42P01"),
		"a lock timeout":             sqlError("55P03"),
		"an unclassified error":      errors.New("something else"),
		"a dependency":               fault.New(fault.Unavailable, "unavailable", "Unavailable"),
	} {
		t.Run("waits for "+name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			var tries atomic.Int32
			c, tel, log := s.observed(t, "test", func(ctx context.Context, e event.Received[eventtest.Thing]) error {
				if tries.Add(1) <= 8 {
					return err
				}
				return s.apply(ctx, e)
			})
			s.run(t, s.outbox.Relay(s.kafka), c)
			s.publish(t, client(event.NewID(), "waited", 1))
			require.Equal(t, []string{"waited"}, s.await(t, 1))
			require.Equal(t, 1, strings.Count(log.String(), `"failed, retrying until it succeeds","doing":"applying events"`), "one line per outage: %s", log)
			require.Eventually(t, func() bool { return strings.Contains(log.String(), `"works again","doing":"applying events"`) }, time.Minute, time.Millisecond)
			require.NoError(t, testutil.GatherAndCompare(tel.Metrics, strings.NewReader(`
				# HELP convoflow_consumer_waiting_partitions Partitions that wait until a transient error passes.
				# TYPE convoflow_consumer_waiting_partitions gauge
				convoflow_consumer_waiting_partitions{service="test"} 0
			`), "convoflow_consumer_waiting_partitions"))
		})
	}
	for reason, err := range map[string]error{
		"data_refused 22": sqlError("22021"), "data_refused 23": sqlError("23502"), "data_refused 54": sqlError("54000"),
		"call_not_found": fault.New(fault.NotFound, "call_not_found", "Call not found"),
	} {
		t.Run("dead-letters "+reason, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			var tries atomic.Int32
			c, _, _ := s.observed(t, "test", func(ctx context.Context, e event.Received[eventtest.Thing]) error {
				if e.Data.Name == "poison" {
					tries.Add(1)
					return err
				}
				return s.apply(ctx, e)
			})
			s.run(t, s.outbox.Relay(s.kafka), c)
			id := event.NewID()
			s.publish(t, client(id, "before", 1), client(id, "poison", 2), client(id, "after", 3))
			require.Equal(t, []string{"before", "after"}, s.await(t, 2))
			require.LessOrEqual(t, tries.Load(), int32(3), "at once: in the batch of three, in its half, and alone")
			dead := bustest.Read(t, s.brokers, bus.DeadLetterTopic(eventtest.ThingsTopic, "test"), 1)
			require.Equal(t, strings.Fields(reason)[0], header(dead[0], "dead_reason"))
		})
	}
}

func TestAPartitionThatWaitsDelaysNoOther(t *testing.T) {
	t.Parallel()
	s := start(t)
	blocked := make(chan struct{})
	waiting := "blocked"
	c, tel, _ := s.observed(t, "test", func(ctx context.Context, e event.Received[eventtest.Thing]) error {
		select {
		case <-blocked:
		default:
			if e.Data.Name == waiting {
				return fault.New(fault.Unavailable, "unavailable", "Unavailable")
			}
		}
		return s.apply(ctx, e)
	})
	s.run(t, s.outbox.Relay(s.kafka), c)
	s.publish(t, client("3e0e36a2-0000-7000-8000-000000000001", waiting, 1))
	gauge := func() float64 {
		families, err := tel.Metrics.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "convoflow_consumer_waiting_partitions" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1
	}
	require.Eventually(t, func() bool { return gauge() == 1 }, time.Minute, time.Millisecond)
	// At least one of many keys is in each of the other two partitions.
	others := 0
	for range 40 {
		s.publish(t, client(event.NewID(), "other", 1))
		others++
	}
	require.Eventually(t, func() bool { return len(s.applied(t)) >= others/3 }, time.Minute, 10*time.Millisecond, "the other partitions go on")
	require.NotContains(t, s.applied(t), waiting)
	close(blocked)
	require.Contains(t, s.await(t, others+1), waiting)
}

func TestUnknownTypesAreSkippedWithOneWarning(t *testing.T) {
	t.Parallel()
	s := start(t)
	c, tel, log := s.observed(t, "test", s.apply)
	newer := event.Type[eventtest.Thing]{Name: "thing.invented-later", Topic: eventtest.ThingsTopic}
	id := event.NewID()
	var messages []outbox.Message
	for v := range int64(5) {
		messages = append(messages, outbox.Message{Event: newer.New(at, eventtest.Thing{ID: id, Version: v})})
	}
	messages = append(messages, outbox.Message{Event: client(id, "known", 6)})
	bustest.Publish(t, s.kafka, eventtest.ThingsTopic, messages)
	s.run(t, c)
	require.Equal(t, []string{"known"}, s.await(t, 1))
	require.Equal(t, 1, strings.Count(log.String(), "unknown type"))
	require.Eventually(t, func() bool {
		return testutil.GatherAndCompare(tel.Metrics, strings.NewReader(`
			# HELP convoflow_consumer_messages_total Messages by topic and result: handled, duplicate, ignored, unknown, tombstone, dead.
			# TYPE convoflow_consumer_messages_total counter
			convoflow_consumer_messages_total{result="dead",service="test",topic="test.requeue"} 0
			convoflow_consumer_messages_total{result="dead",service="test",topic="test.things.v1"} 0
			convoflow_consumer_messages_total{result="handled",service="test",topic="test.things.v1"} 1
			convoflow_consumer_messages_total{result="unknown",service="test",topic="test.things.v1"} 5
		`), "convoflow_consumer_messages_total") == nil
	}, time.Minute, time.Millisecond)
}

// deleteTopic deletes a topic, as an operator does by mistake.
func (s service) deleteTopic(t *testing.T, topic string) {
	t.Helper()
	admin := &kafka.Client{Addr: kafka.TCP(s.brokers...)}
	res, err := admin.DeleteTopics(t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	require.NoError(t, err)
	require.NoError(t, res.Errors[topic])
}

// unpublished counts the events in the outbox.
func (s service) unpublished(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, s.db.Pool().QueryRow(t.Context(), `select count(*) from outbox`).Scan(&n))
	return n
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

func TestTheLagIsTheAgeOfTheOldestUnhandledMessage(t *testing.T) {
	t.Parallel()
	s := start(t)
	release := make(chan struct{})
	c, tel, _ := s.observed(t, "test", func(ctx context.Context, e event.Received[eventtest.Thing]) error {
		select {
		case <-release:
			return s.apply(ctx, e)
		default:
			return errors.New("not yet")
		}
	})
	s.run(t, s.outbox.Relay(s.kafka), c)
	metric := func(name string) float64 {
		families, err := tel.Metrics.Gather()
		require.NoError(t, err)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == name && m.GetLabel()[1].GetValue() == eventtest.ThingsTopic {
					return m.GetGauge().GetValue()
				}
			}
		}
		return -1
	}
	id := event.NewID()
	s.publish(t, client(id, "a", 1), client(id, "b", 2))
	require.Eventually(t, func() bool { return metric("convoflow_consumer_lag_messages") == 2 }, time.Minute, time.Millisecond)
	require.Eventually(t, func() bool { return metric("convoflow_consumer_lag_seconds") > 1 }, time.Minute, time.Millisecond, "it grows between two measurements as well")
	close(release)
	s.await(t, 2)
	require.Eventually(t, func() bool {
		return metric("convoflow_consumer_lag_messages") == 0 && metric("convoflow_consumer_lag_seconds") == 0
	}, time.Minute, time.Millisecond)
}

func TestARequeuedMessageGoesToItsGroupOnly(t *testing.T) {
	t.Parallel()
	s := start(t)
	var repaired atomic.Bool
	broken, _, _ := s.observed(t, "broken", func(ctx context.Context, e event.Received[eventtest.Thing]) error {
		if e.Data.Name == "poison" && !repaired.Load() {
			return fault.New(fault.Invalid, "not_yet", "This version cannot handle it")
		}
		return s.apply(ctx, e)
	})
	other := start(t) // another service's database
	other.kafka, other.brokers = s.kafka, s.brokers
	healthy, _, _ := other.observed(t, "healthy", other.apply)
	s.run(t, broken, healthy)
	id := event.NewID()
	var messages []outbox.Message
	for v, name := range []string{"first", "poison", "last"} {
		messages = append(messages, outbox.Message{Event: client(id, name, int64(v))})
	}
	bustest.Publish(t, s.kafka, eventtest.ThingsTopic, messages)
	require.Eventually(t, func() bool { return len(s.applied(t)) == 2 && len(other.applied(t)) == 3 }, time.Minute, time.Millisecond)

	topic := bus.DeadLetterTopic(eventtest.ThingsTopic, "broken")
	require.Eventually(t, func() bool {
		topics, err := s.kafka.DeadLetterTopics(t.Context())
		return err == nil && len(topics) == 1 && topics[0] == topic
	}, time.Minute, 10*time.Millisecond)
	letters, err := s.kafka.DeadLetters(t.Context(), topic, false)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, []string{"broken", eventtest.ThingsTopic, "not_yet", id}, []string{letters[0].Group, letters[0].Topic, letters[0].Reason, letters[0].Key})
	require.JSONEq(t, string(messages[1].Data), string(letters[0].Value))
	require.Equal(t, messages[1].ID, letters[0].Headers["ce_id"])

	// Still broken: it is dead-lettered again, with the reason of now.
	require.NoError(t, s.kafka.Requeue(t.Context(), topic, letters, letters[0].Offset+1))
	require.Eventually(t, func() bool {
		letters, err = s.kafka.DeadLetters(t.Context(), topic, false)
		return err == nil && len(letters) == 1 && letters[0].Offset == 1
	}, time.Minute, 10*time.Millisecond, "the first one counts as requeued")
	require.Equal(t, "broken.requeue/0/0", letters[0].Source)
	repaired.Store(true)
	for range 2 { // twice by mistake
		require.NoError(t, s.kafka.Requeue(t.Context(), topic, letters, letters[0].Offset+1))
	}
	require.Eventually(t, func() bool { return len(s.applied(t)) == 3 }, time.Minute, time.Millisecond)
	last := client(id, "afterwards", 9)
	bustest.Publish(t, s.kafka, eventtest.ThingsTopic, []outbox.Message{{Event: last}})
	require.Eventually(t, func() bool { return len(s.applied(t)) == 4 && len(other.applied(t)) == 4 }, time.Minute, time.Millisecond)
	require.Equal(t, []string{"first", "last", "poison", "afterwards"}, s.applied(t))
	require.Equal(t, []string{"first", "poison", "last", "afterwards"}, other.applied(t))
	all, err := s.kafka.DeadLetters(t.Context(), topic, true)
	require.NoError(t, err)
	require.Len(t, all, 2)
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

func TestADeadLetterThatIsTooLargeIsStoredWithoutItsPayload(t *testing.T) {
	t.Parallel()
	s := start(t)
	c, k := cluster(t, 1)
	s.kafka, s.brokers = k, c.ListenAddrs()
	topic := bus.DeadLetterTopic(eventtest.ThingsTopic, "test")
	refuse(c, messageTooLarge, func(name string, p kmsg.ProduceRequestTopicPartition) bool {
		return name == topic && len(p.Records) >= 2000
	})
	consumer, _, _ := s.observed(t, "test", func(ctx context.Context, e event.Received[eventtest.Thing]) error {
		if len(e.Data.Name) > 1000 {
			return fault.New(fault.Invalid, "too_long", "Too long")
		}
		return s.apply(ctx, e)
	})
	s.run(t, s.outbox.Relay(s.kafka), consumer)
	id := event.NewID()
	s.publish(t, client(id, strings.Repeat("x", 3000), 1), client(id, "after", 2))
	require.Equal(t, []string{"after"}, s.await(t, 1))
	letters, err := s.kafka.DeadLetters(t.Context(), topic, false)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.True(t, letters[0].WithoutPayload)
	require.ErrorContains(t, s.kafka.Requeue(t.Context(), topic, letters, 0), eventtest.ThingsTopic+"/0/0")
}
