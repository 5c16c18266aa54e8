package bustest

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
)

// Log is what was published to a topic so far. Several reads of it cost one consumer.
type Log struct {
	topic string
	mu    sync.Mutex
	byKey map[string][]kafka.Message
	more  chan struct{} // closed with the next message
}

// Follow reads a topic until the test ends. It waits for a topic that does not exist yet.
func Follow(t testing.TB, brokers []string, topic string) *Log {
	t.Helper()
	reader := open(t, brokers, topic, "test follows "+topic)
	l := &Log{topic: topic, byKey: map[string][]kafka.Message{}, more: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			m, err := reader.FetchMessage(ctx)
			if err != nil {
				return
			}
			l.add(m)
		}
	})
	t.Cleanup(func() {
		cancel()
		reading.Wait()
		_ = reader.Close()
	})
	return l
}

func (l *Log) add(m kafka.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byKey[string(m.Key)] = append(l.byKey[string(m.Key)], m)
	close(l.more)
	l.more = make(chan struct{})
}

// Of returns the messages with a key, once there are at least n. It fails the test after a minute.
func (l *Log) Of(t testing.TB, key string, n int) []kafka.Message {
	t.Helper()
	deadline := time.NewTimer(readTimeout)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		found, more := slices.Clone(l.byKey[key]), l.more
		l.mu.Unlock()
		if len(found) >= n {
			return found
		}
		select {
		case <-more:
		case <-deadline.C:
			t.Fatalf("%d of %d messages of %s were published to %s", len(found), n, key, l.topic)
		}
	}
}

// Events returns the events with a key, each as "type version", once there are at least n.
func (l *Log) Events(t testing.TB, key string, n int) (all []string) {
	t.Helper()
	for _, m := range l.Of(t, key, n) {
		all = append(all, Describe(t, m))
	}
	return all
}

// Describe returns the type of an event and the version of its aggregate.
func Describe(t testing.TB, m kafka.Message) string {
	t.Helper()
	var state struct{ Version json.Number }
	require.NoError(t, json.Unmarshal(m.Value, &state))
	for _, h := range m.Headers {
		if h.Key == "ce_type" {
			return string(h.Value) + " " + state.Version.String()
		}
	}
	require.Fail(t, "a message without a type")
	return ""
}
