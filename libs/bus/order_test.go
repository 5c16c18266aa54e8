package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/event/eventtest"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// readDistinct reads events until it has n different ones. It returns their versions by key in the order of first arrival,
// as a consumer that deduplicates by id sees them.
func readDistinct(t *testing.T, brokers []string, n int) map[string][]int64 {
	t.Helper()
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: brokers, GroupID: "reader", GroupTopics: []string{eventtest.ThingsTopic}, StartOffset: kafka.FirstOffset, MinBytes: 1, MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond})
	defer func() { _ = reader.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	versions, seen := map[string][]int64{}, map[string]bool{}
	for len(seen) < n {
		m, err := reader.FetchMessage(ctx)
		require.NoError(t, err, "%d of %d events arrived", len(seen), n)
		id := header(m, "ce_id")
		if seen[id] {
			continue
		}
		seen[id] = true
		e, err := eventtest.ThingChanged.Decode(event.Event{Data: m.Value})
		require.NoError(t, err)
		versions[string(m.Key)] = append(versions[string(m.Key)], e.Data.Version)
	}
	return versions
}

func header(m kafka.Message, key string) string {
	for _, h := range m.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func upTo(n int) (out []int64) {
	for v := range int64(n) {
		out = append(out, v+1)
	}
	return out
}

// change does what a store's Change does: lock the row, increment the version, write the event.
func (s service) change(ctx context.Context, id string) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		var version int64
		if err := s.db.Conn(ctx).QueryRow(ctx, `update aggregates set version = version + 1 where id = $1 returning version`, id).Scan(&version); err != nil {
			return err
		}
		return s.outbox.Append(ctx, client(id, fmt.Sprint(version), version))
	})
}

func TestTwoRelaysThatLoseTheirConnectionsLoseAndReorderNothing(t *testing.T) {
	t.Parallel()
	const writers, each = 6, 40
	s := start(t)
	_, err := s.db.Pool().Exec(t.Context(), `create table aggregates (id text primary key, version bigint not null default 0)`)
	require.NoError(t, err)
	ids := []string{event.NewID(), event.NewID()}
	for _, id := range ids {
		_, err := s.db.Pool().Exec(t.Context(), `insert into aggregates (id) values ($1)`, id)
		require.NoError(t, err)
	}
	replica, err := bus.Connect(config(s.brokers, 3), "test", eventtest.Topics())
	require.NoError(t, err)
	t.Cleanup(replica.Close)
	s.run(t, s.outbox.Relay(s.kafka), outbox.New(s.db, telemetry.Nop()).Relay(replica))

	var wg sync.WaitGroup
	var written, cuts atomic.Int32
	for w := range writers {
		wg.Go(func() {
			for range each {
				if err := s.change(t.Context(), ids[w%len(ids)]); err != nil {
					t.Error(err)
				}
				// The leader's connection is cut repeatedly while the others write.
				if written.Add(1)%50 == 0 {
					_, err := s.db.Pool().Exec(t.Context(), `select pg_terminate_backend(l.pid) from pg_locks l join pg_stat_activity a using (pid) where l.locktype = 'advisory' and a.usename = current_user`)
					if err != nil {
						t.Error(err)
					}
					cuts.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int32(writers*each/50), cuts.Load())
	// A reader that joined before the topic exists would be assigned no partition and would not refresh its metadata.
	require.NoError(t, s.kafka.Ensure(t.Context()))
	want := upTo(writers * each / len(ids))
	require.Equal(t, map[string][]int64{ids[0]: want, ids[1]: want}, readDistinct(t, s.brokers, writers*each))
	require.Eventually(t, func() bool {
		var left int
		return s.db.Pool().QueryRow(t.Context(), `select count(*) from outbox`).Scan(&left) == nil && left == 0
	}, time.Minute, 10*time.Millisecond)
}

func TestAFailedBatchIsNotPublishedAfterTheNext(t *testing.T) {
	t.Parallel()
	c, k := cluster(t, 1)
	require.NoError(t, k.Ensure(t.Context()))
	// The first batch of the partition fails, and the next would succeed.
	var produced atomic.Int32
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if produced.Add(1) == 1 {
			return nil, errors.New("cut"), true
		}
		return nil, nil, false
	})
	id := event.NewID()
	var messages []outbox.Message
	for v := range 300 { // 2.4 MB: more than two batches
		e := client(id, strings.Repeat("x", 8000), int64(v+1))
		messages = append(messages, outbox.Message{Event: e, Trace: map[string]string{}})
	}
	_, err := k.Publish(t.Context(), eventtest.ThingsTopic, messages)
	require.Error(t, err)
	bustest.Publish(t, k, eventtest.ThingsTopic, messages)
	require.Equal(t, map[string][]int64{id: upTo(300)}, readDistinct(t, c.ListenAddrs(), 300))
}

func TestTheEnvelopeIsACloudEventThatCarriesTheTrace(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, span := s.tel.Tracer().Start(t.Context(), "crm.change")
	e := client(event.NewID(), "a", 1)
	require.NoError(t, s.outbox.Append(ctx, e))
	span.End()
	traces := make(chan string, 1)
	s.run(t, s.outbox.Relay(s.kafka), s.consumer(t, func(ctx context.Context, _ event.Received[eventtest.Thing]) error {
		traces <- telemetry.TraceID(ctx)
		return nil
	}))
	m := bustest.Read(t, s.brokers, eventtest.ThingsTopic, 1)[0]
	require.Equal(t, e.Key, string(m.Key))
	require.JSONEq(t, string(e.Data), string(m.Value))
	for name, want := range map[string]string{"ce_specversion": "1.0", "ce_id": e.ID, "ce_source": "/convoflow/test", "ce_type": "thing.changed", "ce_time": "2026-11-24T09:00:00Z", "content-type": "application/json"} {
		require.Equal(t, want, header(m, name))
	}
	require.Contains(t, header(m, "traceparent"), span.SpanContext().TraceID().String())
	require.Equal(t, span.SpanContext().TraceID().String(), <-traces, "the handler joins the trace")
}

func TestEventIDsAreCaseInsensitive(t *testing.T) {
	t.Parallel()
	s := start(t)
	e := client(event.NewID(), "once", 1)
	upper := e
	upper.ID = strings.ToUpper(e.ID)
	last := client(e.Key, "last", 2)
	bustest.Publish(t, s.kafka, eventtest.ThingsTopic, []outbox.Message{{Event: upper}, {Event: e}, {Event: last}})
	s.run(t, s.consumer(t, s.apply))
	require.Equal(t, []string{"once", "last"}, s.await(t, 2))
}

func TestTwoReplicasShareTheWorkAndHandleEachEventOnce(t *testing.T) {
	t.Parallel()
	s := start(t)
	one, other := s.consumer(t, s.apply), s.consumer(t, s.apply)
	stop := s.run(t, one)
	s.run(t, s.outbox.Relay(s.kafka), other)
	var want []string
	for i := range 60 {
		want = append(want, fmt.Sprint(i))
		s.publish(t, client(event.NewID(), fmt.Sprint(i), 1))
		if i == 30 {
			s.await(t, 1)
			stop() // the other one takes over its partitions, including unfinished work
		}
	}
	require.ElementsMatch(t, want, s.await(t, 60))
}

func TestAHandlerThatPanicsDeadLettersItsEventAndTheConsumerContinues(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.run(t, s.outbox.Relay(s.kafka), s.consumer(t, func(ctx context.Context, e event.Received[eventtest.Thing]) error {
		switch e.Data.Name {
		case "panic":
			panic("oh no")
		case "refused":
			return fault.New(fault.Invalid, "not_mine", "Not mine")
		}
		return s.apply(ctx, e)
	}))
	key := event.NewID()
	s.publish(t, client(key, "panic", 1), client(key, "refused", 2), client(key, "fine", 3))
	require.Equal(t, []string{"fine"}, s.await(t, 1))
	dead := bustest.Read(t, s.brokers, bus.DeadLetterTopic(eventtest.ThingsTopic, "test"), 2)
	var got []string
	for _, m := range dead {
		got = append(got, header(m, "dead_reason"))
		require.NotEmpty(t, header(m, "ce_id"), "the message can be replayed unchanged")
		require.Regexp(t, `^test\.things\.v1/\d+/\d+$`, header(m, "dead_source"))
	}
	require.Equal(t, []string{"internal_error", "not_mine"}, got)
}

func TestWrongKafkaSettings(t *testing.T) {
	t.Parallel()
	require.Empty(t, bus.Config{Brokers: []string{"a:1", "b:2"}, Partitions: 1, Mechanism: "SCRAM-SHA-512", User: "u", Password: "p"}.Check())
	require.Len(t, bus.Config{Brokers: []string{"a", "b:2"}, Mechanism: "kerberos", Prefix: "a b", Replication: -1, CAFile: "ca.pem"}.Check(), 6)
	cfg := bus.Config{Brokers: []string{"a:1"}, Partitions: 1, Mechanism: "none", TLS: true, CAFile: "missing.pem"}
	require.Len(t, cfg.Check(), 1)
	cfg.CAFile, cfg.CertFile = "", "missing.pem"
	require.Len(t, cfg.Check(), 1)
	require.Len(t, bus.Defaults().Check(), 1)
}

// A leader that is being elected refuses a batch, which is sent again with its payloads.
func TestABatchThatIsSentAgainIsWhole(t *testing.T) {
	t.Parallel()
	c, k := cluster(t, 1)
	require.NoError(t, k.Ensure(t.Context()))
	var produced atomic.Int32
	refuse(c, notLeader, func(string, kmsg.ProduceRequestTopicPartition) bool { return produced.Add(1) <= 2 })
	e := client(event.NewID(), "whole", 1)
	bustest.Publish(t, k, eventtest.ThingsTopic, []outbox.Message{{Event: e}})
	require.Equal(t, int32(3), produced.Load())
	m := bustest.Read(t, c.ListenAddrs(), eventtest.ThingsTopic, 1)[0]
	require.JSONEq(t, string(e.Data), string(m.Value))
	require.Equal(t, e.Key, string(m.Key))
}
