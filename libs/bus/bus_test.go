package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var at = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

// service is one service with its database, broker and outbox.
type service struct {
	db      *pg.DB
	kafka   *bus.Kafka
	brokers []string
	outbox  *outbox.Outbox
	tel     telemetry.Set
}

func config(brokers []string, partitions int) bus.Config {
	cfg := bus.Defaults()
	cfg.Brokers, cfg.Partitions = brokers, partitions
	return cfg
}

func start(t *testing.T) service {
	t.Helper()
	tel := telemetry.Nop()
	db := pgtest.Open(t, outbox.Migrations(), inbox.Migrations())
	_, err := db.Pool().Exec(t.Context(), `create table applied (id bigint generated always as identity, event_id text, name text)`)
	require.NoError(t, err)
	brokers := bustest.Broker(t)
	k, err := bus.Connect(config(brokers, 3), "test", eventtest.Topics())
	require.NoError(t, err)
	t.Cleanup(k.Close)
	return service{db: db, kafka: k, brokers: brokers, outbox: outbox.New(db, tel), tel: tel}
}

// run starts actors and stops them before the test's other cleanups.
func (s service) run(t *testing.T, actors ...run.Actor) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	for _, a := range actors {
		wg.Go(func() { _ = a.Run(ctx) })
	}
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

func (s service) consumer(t *testing.T, handle func(context.Context, event.Received[eventtest.Thing]) error) *bus.Consumer {
	t.Helper()
	tel := telemetry.Nop()
	chain, err := op.NewChain(tel, pg.Classify)
	require.NoError(t, err)
	c := bus.NewConsumer(s.kafka, "test", inbox.New(s.db), chain, clock.System{}, tel)
	bus.On(c, handle, eventtest.ThingChanged)
	return c
}

func (s service) apply(ctx context.Context, e event.Received[eventtest.Thing]) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `insert into applied (event_id, name) values ($1, $2)`, e.ID, e.Data.Name)
	return err
}

func (s service) applied(t require.TestingT) []string {
	rows, _ := s.db.Pool().Query(context.Background(), `select name from applied order by id`)
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		names = append(names, name)
	}
	return names
}

func (s service) await(t *testing.T, n int) []string {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { require.GreaterOrEqual(c, len(s.applied(c)), n) }, time.Minute, 20*time.Millisecond)
	return s.applied(t)
}

func client(id, name string, version int64) event.Event {
	return eventtest.ThingChanged.New(at, eventtest.Thing{ID: id, Name: name, Version: version})
}

func (s service) publish(t *testing.T, events ...event.Event) {
	t.Helper()
	require.NoError(t, s.db.InTx(t.Context(), func(ctx context.Context) error { return s.outbox.Append(ctx, events...) }))
}

func TestEachHandlerOfATypeRunsInOneTransaction(t *testing.T) {
	t.Parallel()
	s := start(t)
	failed := false
	c := s.consumer(t, s.apply)
	bus.On(c, func(ctx context.Context, e event.Received[eventtest.Thing]) error {
		if !failed {
			failed = true
			return errors.New("transient")
		}
		e.Data.Name += " too"
		return s.apply(ctx, e)
	}, eventtest.ThingChanged)
	s.publish(t, client(event.NewID(), "a", 1))
	s.run(t, s.outbox.Relay(s.kafka), c)
	require.Equal(t, []string{"a", "a too"}, s.await(t, 2), "the first is repeated with the second")
}

func TestEventsReachTheHandlerOnceAndInOrder(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.run(t, s.outbox.Relay(s.kafka), s.consumer(t, s.apply))
	id := event.NewID()
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprint(i))
		s.publish(t, client(id, fmt.Sprint(i), int64(i)))
	}
	require.Equal(t, want, s.await(t, 30))
}

func TestAnEventOfARolledBackChangeIsNeverPublished(t *testing.T) {
	t.Parallel()
	s := start(t)
	err := s.db.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, s.outbox.Append(ctx, client(event.NewID(), "never", 1)))
		return errors.New("changed my mind")
	})
	require.Error(t, err)
	s.run(t, s.outbox.Relay(s.kafka), s.consumer(t, s.apply))
	s.publish(t, client(event.NewID(), "real", 1))
	require.Equal(t, []string{"real"}, s.await(t, 1))
}

func TestADuplicateIsIgnored(t *testing.T) {
	t.Parallel()
	s := start(t)
	twice := client(event.NewID(), "once", 1)
	messages := []outbox.Message{{Event: twice}, {Event: twice}, {Event: client(twice.Key, "last", 2)}}
	for i := range messages {
		messages[i].Source = "/convoflow/test"
	}
	bustest.Publish(t, s.kafka, eventtest.ThingsTopic, messages)
	bustest.Publish(t, s.kafka, eventtest.ThingsTopic, messages)
	s.run(t, s.consumer(t, s.apply))
	require.Equal(t, []string{"once", "last"}, s.await(t, 2))
	s.publish(t, client(event.NewID(), "afterwards", 1))
	s.run(t, s.outbox.Relay(s.kafka))
	require.Equal(t, []string{"once", "last", "afterwards"}, s.await(t, 3))
}

func TestAPoisonMessageGoesToTheDeadLetterTopicAndDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	s := start(t)
	require.NoError(t, s.kafka.Ensure(t.Context()))
	w := &kafka.Writer{Addr: kafka.TCP(s.brokers...), Topic: eventtest.ThingsTopic, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond, Balancer: kafka.Murmur2Balancer{}}
	t.Cleanup(func() { _ = w.Close() })
	key := []byte(event.NewID())
	headers := func(typ string) []kafka.Header {
		return []kafka.Header{{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(event.NewID())}, {Key: "ce_type", Value: []byte(typ)}, {Key: "ce_time", Value: []byte("2026-11-24T09:00:00Z")}}
	}
	poison := []kafka.Message{
		{Key: key, Value: []byte("no envelope")},
		{Key: key, Value: []byte("no json"), Headers: headers("thing.changed")},
		{Key: key, Value: []byte("{}"), Headers: headers("thing.exploded")},
		{Key: key, Value: []byte("{}"), Headers: headers("thing.ignored")}, // a known type without a handler
	}
	require.Eventually(t, func() bool { return w.WriteMessages(t.Context(), poison...) == nil }, time.Minute, 10*time.Millisecond, "once the new topic has leaders")
	good := client(string(key), "good", 1)
	bustest.Publish(t, s.kafka, eventtest.ThingsTopic, []outbox.Message{{Event: good, Trace: map[string]string{}}})
	s.run(t, s.consumer(t, s.apply))
	require.Equal(t, []string{"good"}, s.await(t, 1))
	dead := bustest.Read(t, s.brokers, bus.DeadLetterTopic(eventtest.ThingsTopic, "test"), 2)
	var reasons []string
	for _, m := range dead {
		i := slices.IndexFunc(m.Headers, func(h kafka.Header) bool { return h.Key == "dead_reason" })
		reasons = append(reasons, string(m.Headers[i].Value))
	}
	require.ElementsMatch(t, []string{"bad_envelope", "bad_payload"}, reasons)
}

func TestATransientErrorIsRetriedUntilItPasses(t *testing.T) {
	t.Parallel()
	s := start(t)
	tries := 0
	s.run(t, s.outbox.Relay(s.kafka), s.consumer(t, func(ctx context.Context, e event.Received[eventtest.Thing]) error {
		if tries++; tries <= 7 {
			return fault.New(fault.Unavailable, "unavailable", "Unavailable")
		}
		return s.apply(ctx, e)
	}))
	s.publish(t, client(event.NewID(), "retried", 1))
	require.Equal(t, []string{"retried"}, s.await(t, 1))
}

func TestAFailedHandlerRollsBackItsWritesAndItsInboxRow(t *testing.T) {
	t.Parallel()
	s := start(t)
	first := true
	s.run(t, s.outbox.Relay(s.kafka), s.consumer(t, func(ctx context.Context, e event.Received[eventtest.Thing]) error {
		if err := s.apply(ctx, e); err != nil {
			return err
		}
		if first {
			first = false
			return errors.New("after the write")
		}
		return nil
	}))
	s.publish(t, client(event.NewID(), "a", 1))
	require.Equal(t, []string{"a"}, s.await(t, 1))
}

func TestAnUnpublishedEventSurvivesABrokerOutage(t *testing.T) {
	t.Parallel()
	s := start(t)
	down, err := bus.Connect(config([]string{"127.0.0.1:1"}, 1), "test", eventtest.Topics())
	require.NoError(t, err)
	t.Cleanup(down.Close)
	s.publish(t, client(event.NewID(), "stored", 1))
	failed := make(chan struct{}, 100)
	stop := s.run(t, s.outbox.Relay(publisher(func(ctx context.Context, topic string, m []outbox.Message) ([]int, error) {
		defer func() { failed <- struct{}{} }()
		return down.Publish(ctx, topic, m)
	})))
	<-failed
	stop()
	again := outbox.New(s.db, telemetry.Nop()) // after a restart
	s.run(t, again.Relay(s.kafka), s.consumer(t, s.apply))
	require.Equal(t, []string{"stored"}, s.await(t, 1))
}

type publisher func(context.Context, string, []outbox.Message) ([]int, error)

func (p publisher) Publish(ctx context.Context, topic string, m []outbox.Message) ([]int, error) {
	return p(ctx, topic, m)
}
