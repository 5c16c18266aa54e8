package bustest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/lockdir"
)

// Environment variables that make Broker use real Kafka clusters; test/kafka/cmd/with-kafka sets them.
const (
	ClustersVariable = "TEST_KAFKA_CLUSTERS" // addresses of clusters of one broker, separated by spaces
	LocksVariable    = "TEST_KAFKA_LOCKS"    // directory of their locks
)

const (
	lockTimeout  = 30 * time.Minute // the other tests of the run may come first
	emptyTimeout = 2 * time.Minute  // members that were killed leave a group when their session expires
)

// Real reports whether Broker returns real clusters.
func Real() bool { return os.Getenv(ClustersVariable) != "" }

// borrow takes a real cluster for one test, which then is the only one that uses it, in all processes. It is empty: topics and
// groups are deleted when the test ends.
func borrow(t testing.TB, clusters []string) []string {
	t.Helper()
	dir := os.Getenv(LocksVariable)
	require.NotEmpty(t, dir, "%s is set and %s is not", ClustersVariable, LocksVariable)
	deadline := time.NewTimer(lockTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, address := range clusters {
			lock := filepath.Join(dir, "lock-"+strings.ReplaceAll(address, ":", "-"))
			require.NoError(t, os.MkdirAll(lock, 0o700))
			unlock, err := lockdir.Lock(lock)
			if err != nil {
				continue // another test uses it
			}
			t.Cleanup(func() {
				defer unlock()
				ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), emptyTimeout)
				defer cancel()
				if err := empty(ctx, address); err != nil {
					t.Errorf("empty the Kafka cluster: %v", err)
				}
			})
			return []string{address}
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("no Kafka cluster was free within %s", lockTimeout)
		}
	}
}

// empty deletes all topics and groups of a cluster.
func empty(ctx context.Context, address string) error {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(address), Transport: transport, Timeout: 20 * time.Second}
	for {
		left, err := deleteAll(ctx, client)
		if err == nil && left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d topics and groups are left: %w", left, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// deleteAll deletes what can be deleted now and returns how many topics and groups there were.
func deleteAll(ctx context.Context, client *kafka.Client) (int, error) {
	groups, err := client.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err != nil {
		return 1, fmt.Errorf("list the groups: %w", err)
	}
	var ids []string
	for _, g := range groups.Groups {
		ids = append(ids, g.GroupID)
	}
	if len(ids) > 0 {
		if _, err := client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: ids}); err != nil {
			return len(ids), fmt.Errorf("delete the groups: %w", err)
		}
	}
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return 1, fmt.Errorf("list the topics: %w", err)
	}
	var topics []string
	for _, topic := range meta.Topics {
		if !topic.Internal {
			topics = append(topics, topic.Name)
		}
	}
	if len(topics) > 0 {
		if _, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: topics}); err != nil {
			return len(topics), fmt.Errorf("delete the topics: %w", err)
		}
	}
	return len(ids) + len(topics), nil
}
