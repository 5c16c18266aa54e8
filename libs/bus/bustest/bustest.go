// Package bustest gives each test a Kafka of its own: an in-memory broker that speaks the real protocol or, under with-kafka
// (make test-kafka), a real cluster that no other test uses meanwhile. It refuses to be shared by tests.
package bustest

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/convoflow/convoflow/libs/outbox"
)

// Broker returns the addresses of an empty broker for KAFKA_BROKERS. It is the test's own until the test ends; a test has one.
func Broker(t testing.TB) []string {
	t.Helper()
	if clusters := strings.Fields(os.Getenv(ClustersVariable)); len(clusters) > 0 {
		return borrow(t, clusters)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()
}

const (
	pollInterval = 10 * time.Millisecond
	readTimeout  = time.Minute
)

// Publish publishes messages of one topic.
func Publish(t testing.TB, to outbox.Publisher, topic string, messages []outbox.Message) {
	t.Helper()
	_, err := to.Publish(t.Context(), topic, messages)
	require.NoError(t, err)
}

// Read returns the first n messages of a topic, from all of its partitions. It waits for a topic that does not exist yet, and
// fails the test after a minute.
func Read(t testing.TB, brokers []string, topic string, n int) []kafka.Message {
	t.Helper()
	reader := open(t, brokers, topic, "test "+t.Name())
	defer func() { _ = reader.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), readTimeout)
	defer cancel()
	var messages []kafka.Message
	for len(messages) < n {
		m, err := reader.FetchMessage(ctx)
		require.NoError(t, err, "read message %d of %s", len(messages)+1, topic)
		messages = append(messages, m)
	}
	return messages
}

// open returns a reader of a topic, once that exists.
func open(t testing.TB, brokers []string, topic, group string) *kafka.Reader {
	t.Helper()
	// A group that joins while the topic is being created may never be assigned partitions.
	conn, err := kafka.DialContext(t.Context(), "tcp", brokers[0])
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.Eventually(t, func() bool {
		partitions, err := conn.ReadPartitions(topic)
		return err == nil && len(partitions) > 0
	}, readTimeout, pollInterval, "topic %s does not exist", topic)
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers: brokers, GroupID: group, GroupTopics: []string{topic}, StartOffset: kafka.FirstOffset,
		MinBytes: 1, MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond,
	})
}
