package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/event/eventtest"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// The tests of libs/bus cover publishing to Kafka.

func TestMain(m *testing.M) { pgtest.Main(m) }

var at = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

func thing(n int) event.Event {
	return event.Event{ID: event.NewID(), Type: "thing.changed", Topic: eventtest.ThingsTopic, Key: "k", Time: at, Data: json.RawMessage(fmt.Sprintf(`{"n": %d}`, n))}
}

func start(t *testing.T) (*pg.DB, *outbox.Outbox, telemetry.Set) {
	t.Helper()
	tel := telemetry.Nop()
	db := pgtest.Open(t, outbox.Migrations())
	return db, outbox.New(db, tel), tel
}

// publisher sends each batch to a test, which sends back the result of Publish.
type publisher struct {
	batches chan []outbox.Message
	results chan error
}

func (p publisher) Publish(ctx context.Context, _ string, messages []outbox.Message) ([]int, error) {
	select {
	case p.batches <- messages:
		select {
		case err := <-p.results:
			if err != nil {
				return nil, err
			}
			return upTo(len(messages)), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func upTo(n int) (indexes []int) {
	for i := range n {
		indexes = append(indexes, i)
	}
	return indexes
}

func relay(t *testing.T, o *outbox.Outbox) publisher {
	t.Helper()
	p := publisher{make(chan []outbox.Message), make(chan error)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- o.Relay(p).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

func left(t *testing.T, db *pg.DB) (n int) {
	t.Helper()
	require.NoError(t, db.Pool().QueryRow(t.Context(), `select count(*) from outbox`).Scan(&n))
	return n
}

func TestEventsArePublishedUnchangedWithTheirTrace(t *testing.T) {
	t.Parallel()
	db, o, tel := start(t)
	p := relay(t, o)
	ctx, span := tel.Tracer().Start(t.Context(), "crm.change")
	first, second := thing(1), thing(2)
	require.NoError(t, db.InTx(ctx, func(ctx context.Context) error { return o.Append(ctx, first, second) }))
	span.End()
	got := <-p.batches
	first.Source, second.Source = "/convoflow/test", "/convoflow/test"
	require.Equal(t, []event.Event{first, second}, []event.Event{got[0].Event, got[1].Event}, "the payloads are byte-for-byte the same")
	for _, m := range got {
		require.Equal(t, telemetry.TraceID(ctx), telemetry.TraceID(tel.Extract(t.Context(), m.Trace)))
		require.NotEqual(t, tel.Inject(ctx), m.Trace, "it continues in the span of sending")
	}
	require.Equal(t, 2, left(t, db), "they are stored until the broker has acknowledged them")
	p.results <- nil
	require.Eventually(t, func() bool { return left(t, db) == 0 }, time.Minute, 5*time.Millisecond)
	require.NoError(t, testutil.GatherAndCompare(tel.Metrics, strings.NewReader(`
		# HELP convoflow_outbox_published_total Events published to Kafka.
		# TYPE convoflow_outbox_published_total counter
		convoflow_outbox_published_total{service="test"} 2
	`), "convoflow_outbox_published_total"))
}

func TestAFailedPublishIsRetriedInOrder(t *testing.T) {
	t.Parallel()
	db, o, tel := start(t)
	p := relay(t, o)
	e := thing(1)
	require.NoError(t, o.Append(t.Context(), e), "outside a transaction it starts one")
	require.Equal(t, e.ID, (<-p.batches)[0].ID)
	p.results <- errors.New("broker unavailable")
	later := thing(2)
	require.NoError(t, o.Append(t.Context(), later))
	again := <-p.batches
	require.Len(t, again, 2)
	require.Equal(t, []string{e.ID, later.ID}, []string{again[0].ID, again[1].ID}, "in the same order")
	n, err := testutil.GatherAndCount(tel.Metrics, "convoflow_outbox_oldest_seconds")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	p.results <- nil
	require.Eventually(t, func() bool { return left(t, db) == 0 }, time.Minute, 5*time.Millisecond)
}

func TestARowThatCommitsLateIsNotSkipped(t *testing.T) {
	t.Parallel()
	db, o, _ := start(t)
	p := relay(t, o)
	late, early := thing(1), thing(2)
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, o.Append(ctx, late))          // gets its id first
		require.NoError(t, o.Append(t.Context(), early)) // another transaction, committed immediately
		require.Equal(t, early.ID, (<-p.batches)[0].ID)
		p.results <- nil
		return nil
	}))
	require.Equal(t, late.ID, (<-p.batches)[0].ID)
	p.results <- nil
}

func TestAnEventThatIsTooLargeForKafkaIsRefused(t *testing.T) {
	t.Parallel()
	db, o, _ := start(t)
	huge := thing(1)
	huge.Data = json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	require.ErrorContains(t, o.Append(t.Context(), thing(2), huge), "over the 900000 that Kafka takes")
	require.Zero(t, left(t, db))
	require.NoError(t, o.Append(t.Context()))
}

func TestALongOutboxIsPublishedInOrder(t *testing.T) {
	t.Parallel()
	db, o, _ := start(t)
	var want, got []string
	for range 3 {
		var events []event.Event
		for range 400 {
			events = append(events, thing(len(want)))
			want = append(want, events[len(events)-1].ID)
		}
		require.NoError(t, o.Append(t.Context(), events...))
	}
	p := relay(t, o)
	for len(got) < len(want) {
		for _, m := range <-p.batches {
			got = append(got, m.ID)
		}
		p.results <- nil
	}
	require.Equal(t, want, got)
	require.Eventually(t, func() bool { return left(t, db) == 0 }, time.Minute, 5*time.Millisecond)
}

// perTopic publishes to every topic but the broken ones.
type perTopic struct {
	broken    func(topic string) error
	published chan string // "topic n"
}

func (p perTopic) Publish(_ context.Context, topic string, messages []outbox.Message) ([]int, error) {
	if err := p.broken(topic); err != nil {
		return nil, err
	}
	for _, m := range messages {
		p.published <- topic + " " + m.Type
	}
	return upTo(len(messages)), nil
}

func TestATopicThatFailsBlocksOnlyItself(t *testing.T) {
	t.Parallel()
	db, o, tel := start(t)
	var repaired atomic.Bool
	p := perTopic{published: make(chan string, 10), broken: func(topic string) error {
		if topic == "a.broken" && !repaired.Load() {
			return errors.New("unknown topic")
		}
		return nil
	}}
	on := func(topic, typ string) event.Event {
		e := thing(1)
		e.Topic, e.Type = topic, typ
		return e
	}
	require.NoError(t, o.Append(t.Context(), on("a.broken", "1"), on("healthy", "1"), on("a.broken", "2")))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- o.Relay(p).Run(ctx) }()
	stop := sync.OnceFunc(func() { cancel(); require.NoError(t, <-ended) })
	t.Cleanup(stop)
	require.Equal(t, "healthy 1", <-p.published)
	require.NoError(t, o.Append(t.Context(), on("healthy", "2")))
	require.Equal(t, "healthy 2", <-p.published)
	require.Eventually(t, func() bool { return left(t, db) == 2 }, time.Minute, time.Millisecond)
	age := func() []float64 {
		families, err := tel.Metrics.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "convoflow_outbox_oldest_seconds" {
				return []float64{f.GetMetric()[0].GetGauge().GetValue()}
			}
		}
		return nil
	}
	require.Eventually(t, func() bool { return age()[0] > 0.5 }, time.Minute, time.Millisecond)
	repaired.Store(true)
	require.Equal(t, "a.broken 1", <-p.published)
	require.Equal(t, "a.broken 2", <-p.published)
	require.Eventually(t, func() bool { return age()[0] == 0 }, time.Minute, time.Millisecond)
	stop()
	require.Empty(t, age(), "it no longer leads")
}

func TestTheLeadersBacklogIsRightFromTheFirstLook(t *testing.T) {
	t.Parallel()
	db, o, tel := start(t)
	require.NoError(t, o.Append(t.Context(), thing(1)))
	_, err := db.Pool().Exec(t.Context(), `update outbox set created_at = now() - interval '1 hour'`)
	require.NoError(t, err)
	p := relay(t, o)
	<-p.batches // and no answer yet
	families, err := tel.Metrics.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "convoflow_outbox_oldest_seconds" {
			require.GreaterOrEqual(t, f.GetMetric()[0].GetGauge().GetValue(), 3600.0)
			p.results <- nil
			return
		}
	}
	t.Fatal("no metric")
}

func TestAnEventWithoutAKeyIsRefusedAndATombstoneIsNot(t *testing.T) {
	t.Parallel()
	_, o, _ := start(t)
	keyless := thing(1)
	keyless.Key = ""
	require.ErrorContains(t, o.Append(t.Context(), keyless), "has no key")
	tombstone := thing(2)
	tombstone.Data = nil
	require.NoError(t, o.Append(t.Context(), tombstone))
	p := relay(t, o)
	require.Nil(t, (<-p.batches)[0].Data)
	p.results <- nil
}

// An operator may delete an event that can never be published. The topic is then no longer tried.
func TestAnEventThatIsDeletedAfterAFailureIsForgotten(t *testing.T) {
	t.Parallel()
	db, o, tel := start(t)
	p := relay(t, o)
	require.NoError(t, o.Append(t.Context(), thing(1)))
	<-p.batches
	p.results <- errors.New("refused")
	_, err := db.Pool().Exec(t.Context(), `delete from outbox`)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return testutil.GatherAndCompare(tel.Metrics, strings.NewReader(`
			# HELP convoflow_outbox_oldest_seconds Age of the oldest event that is not published yet. Only the leading replica reports it.
			# TYPE convoflow_outbox_oldest_seconds gauge
			convoflow_outbox_oldest_seconds{service="test"} 0
		`), "convoflow_outbox_oldest_seconds") == nil
	}, time.Minute, time.Millisecond)
}
