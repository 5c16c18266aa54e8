package fault

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/convoflow/convoflow/test/internal/program"
	"github.com/convoflow/convoflow/test/kafka"
)

// broker is the Kafka of a world.
type broker interface {
	addresses() []string
	down(t testing.TB)  // with kill -9 where it is a process
	start(t testing.TB) // what is down, on its data
	pause(t testing.TB)
	resume(t testing.TB)
}

// embedded is the broker of the platform on one machine: franz-go's, in this process, with its data on disk.
type embedded struct {
	dir     string
	port    int
	cluster *kfake.Cluster
}

// startEmbedded needs no Java.
func startEmbedded(t testing.TB, dir string, ports *program.Ports) broker {
	t.Helper()
	address, err := ports.Free()
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	b := &embedded{dir: dir}
	b.port, err = strconv.Atoi(port)
	require.NoError(t, err)
	b.start(t)
	t.Cleanup(func() { b.down(t) })
	return b
}

func (b *embedded) addresses() []string {
	return []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port))}
}

func (b *embedded) down(testing.TB) {
	if b.cluster != nil {
		b.cluster.Close()
		b.cluster = nil
	}
}

func (b *embedded) start(t testing.TB) {
	t.Helper()
	if b.cluster != nil {
		return
	}
	// As the platform does: the members of the last run would have to expire first.
	if err := os.Remove(filepath.Join(b.dir, "session_state.json")); !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	var err error
	b.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(b.port), kfake.DataDir(b.dir), kfake.SyncWrites(),
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": "3153600000000", "log.retention.ms": "-1"}))
	require.NoError(t, err)
}

func (b *embedded) pause(t testing.TB)  { b.down(t) }
func (b *embedded) resume(t testing.TB) { b.start(t) }

// apache is a cluster of Apache Kafka.
type apache struct {
	*kafka.Cluster
	brokers int
}

// startApache returns what starts a cluster of that many brokers.
func startApache(brokers int) func(testing.TB, string, *program.Ports) broker {
	return func(t testing.TB, dir string, ports *program.Ports) broker {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
		defer cancel()
		c, err := kafka.Start(ctx, kafka.Options{Dir: dir, Brokers: brokers, Ports: ports})
		require.NoError(t, err)
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(c.Log())
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		return &apache{c, brokers}
	}
}

func (b *apache) addresses() []string { return b.Addresses() }
func (b *apache) down(testing.TB)     { b.KillAll() }

func (b *apache) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	require.NoError(t, b.StartAll(ctx))
}

func (b *apache) pause(testing.TB) {
	for i := range b.brokers {
		b.Pause(i)
	}
}

func (b *apache) resume(testing.TB) {
	for i := range b.brokers {
		b.Resume(i)
	}
}

// wipe makes all brokers new ones.
func (b *apache) wipe(t testing.TB) {
	t.Helper()
	for i := range b.brokers {
		require.NoError(t, b.Wipe(t.Context(), i))
	}
}
