package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
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

// unpublished counts the events in the outbox.
func (s service) unpublished(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, s.db.Pool().QueryRow(t.Context(), `select count(*) from outbox`).Scan(&n))
	return n
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
