package bus_test

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/event/eventtest"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// recorder collects the events that a watcher delivers.
type recorder struct {
	mu  sync.Mutex
	ids []string
}

func (w *recorder) on(r event.Received[eventtest.Thing]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids = append(w.ids, r.Data.ID)
}

func (w *recorder) received() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.ids...)
}

func sessionEnd() outbox.Message {
	return outbox.Message{Event: eventtest.ThingChanged.New(time.Now(), eventtest.Thing{ID: event.NewID()})}
}

func connect(t *testing.T, brokers []string) *bus.Kafka {
	t.Helper()
	k, err := bus.Connect(config(brokers, 3), "test", eventtest.Topics())
	require.NoError(t, err)
	t.Cleanup(k.Close)
	return k
}

// current reports whether a watcher has read what was published before its start.
func current(w *bus.Watcher) bool { return w.Stale() < time.Hour }

func TestEveryWatcherReceivesTheBacklogAndNewEvents(t *testing.T) {
	t.Parallel()
	k := connect(t, bustest.Broker(t))
	var messages []outbox.Message
	var want []string
	for range 20 {
		messages = append(messages, sessionEnd())
		want = append(want, messages[len(messages)-1].Key)
	}
	bustest.Publish(t, k, eventtest.ThingsTopic, messages)
	var recorders [2]recorder
	for i := range recorders {
		tel := telemetry.Nop()
		tel.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
		w := bus.NewWatcher(k, eventtest.ThingsTopic, time.Hour, clock.System{}, tel)
		bus.Watch(w, eventtest.ThingChanged, recorders[i].on)
		require.Greater(t, w.Stale(), 1000*time.Hour, "it has read nothing")
		service{}.run(t, w)
		require.Eventually(t, func() bool { return current(w) }, time.Minute, time.Millisecond)
		require.ElementsMatch(t, want, recorders[i].received(), "it is ready once the backlog has been read")
	}
	late := sessionEnd()
	bustest.Publish(t, k, eventtest.ThingsTopic, []outbox.Message{late})
	for i := range recorders {
		require.Eventually(t, func() bool { return len(recorders[i].received()) == len(want)+1 }, time.Minute, time.Millisecond)
	}
}

func TestAWatcherSkipsEventsBeforeItsLookback(t *testing.T) {
	t.Parallel()
	k := connect(t, bustest.Broker(t))
	old := sessionEnd()
	bustest.Publish(t, k, eventtest.ThingsTopic, []outbox.Message{old})
	var events recorder
	w := bus.NewWatcher(k, eventtest.ThingsTopic, -time.Hour, clock.System{}, telemetry.Nop()) // a lookback that begins in an hour
	bus.Watch(w, eventtest.ThingChanged, events.on)
	service{}.run(t, w)
	require.Eventually(t, func() bool { return current(w) }, time.Minute, time.Millisecond)
	late := sessionEnd()
	bustest.Publish(t, k, eventtest.ThingsTopic, []outbox.Message{late})
	require.Eventually(t, func() bool { return len(events.received()) > 0 }, time.Minute, time.Millisecond)
	require.Equal(t, []string{late.Key}, events.received())
}

// A message that cannot be decoded is skipped, and Kafka may start after the watcher.
func TestAWatcherSurvivesBadMessagesAndABrokerOutage(t *testing.T) {
	t.Parallel()
	brokers := bustest.Broker(t)
	k := connect(t, brokers)
	require.NoError(t, k.Ensure(t.Context()))
	writer := &kafka.Writer{Addr: kafka.TCP(brokers...), RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond}
	defer func() { _ = writer.Close() }()
	for range 6 {
		require.NoError(t, writer.WriteMessages(t.Context(), kafka.Message{Topic: eventtest.ThingsTopic, Value: []byte("poison")}))
	}
	good := sessionEnd()
	bustest.Publish(t, k, eventtest.ThingsTopic, []outbox.Message{good})
	var events recorder
	w := bus.NewWatcher(k, eventtest.ThingsTopic, time.Hour, clock.System{}, telemetry.Nop())
	bus.Watch(w, eventtest.ThingChanged, events.on)
	service{}.run(t, w)
	require.Eventually(t, func() bool { return current(w) }, time.Minute, time.Millisecond)
	require.Equal(t, []string{good.Key}, events.received())

	down := bus.NewWatcher(connect(t, []string{"127.0.0.1:1"}), eventtest.ThingsTopic, time.Hour, clock.System{}, telemetry.Nop())
	stop := service{}.run(t, run.Func(down.Run))
	require.False(t, current(down))
	stop()
}
