// Package broker is the Kafka-protocol broker inside the platform process: franz-go's kfake with its data on disk and every
// write synced before it is acknowledged, so that restarts and kill -9 lose nothing. It owns its data directory. It refuses
// what kfake does unsafely: deleting old records (see settings), and a directory that another process uses.
//
// It is one node for one machine, loopback only, without authentication. KAFKA_BROKERS replaces it by a real Kafka.
package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

// settings keep every record for ever. kfake's retention and compaction are not safe against a crash: compaction deletes the
// old segments before it writes the new ones, and a partition that retention has emptied starts again at offset 0 after a
// restart, behind its committed offsets. Both run from one timer, which is set to 100 years.
var settings = map[string]string{
	"log.cleaner.backoff.ms": "3153600000000",
	"log.retention.ms":       "-1",
}

// sessionFile is where kfake keeps the members of consumer groups over an orderly restart. They all lived in the process that
// ended, and a new consumer would wait for them until their sessions expire.
const sessionFile = "session_state.json"

// Options say where the broker keeps its data and where it listens.
type Options struct {
	Dir  string       // made if absent
	Log  *slog.Logger // hears warnings of the broker
	Port int          // at 127.0.0.1; 0 takes a free one
}

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
	addr    string
	lock    *os.File
}

// Start starts a broker on the data in o.Dir. Topics are made by clients; nothing is made on first use.
func Start(ctx context.Context, o Options) (*Broker, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the broker's directory: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(o.Dir, sessionFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		_ = lock.Close()
		return nil, fmt.Errorf("forget the consumers of the last run: %w", err)
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.Ports(o.Port),
		kfake.ClusterID("convoflow"),
		kfake.DataDir(o.Dir),
		kfake.SyncWrites(),
		kfake.BrokerConfigs(settings),
		kfake.WithLogger(logger{ctx: context.WithoutCancel(ctx), log: o.Log}),
	)
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("start the broker on %s: %w", o.Dir, err)
	}
	return &Broker{cluster: cluster, addr: cluster.ListenAddrs()[0], lock: lock}, nil
}

// Addr is host:port for clients.
func (b *Broker) Addr() string { return b.addr }

// Close stops the broker and writes a snapshot, which makes the next start fast. Connections are cut, so consumers and
// producers go first. When ctx ends before that is done, the broker is left to itself and nothing acknowledged is lost.
func (b *Broker) Close(ctx context.Context) error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		b.cluster.Close()
		_ = b.lock.Close()
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the broker: %w", ctx.Err())
	}
}

// lockDir makes sure that one process at a time uses dir. The kernel drops the lock when the process dies.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of %s: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s is used by another running process: stop it or choose another directory", dir)
	}
	return f, nil
}

// logger passes on what kfake says of its state; it never logs records.
type logger struct {
	ctx context.Context //nolint:containedctx // kfake's logger has no context of its own
	log *slog.Logger
}

func (l logger) Logf(level kfake.LogLevel, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		to = slog.LevelWarn
	default: // what it says about each request is for its own developers
	}
	if l.log.Enabled(l.ctx, to) {
		l.log.Log(l.ctx, to, "the embedded broker says", "text", strings.TrimSpace(fmt.Sprintf(msg, args...)))
	}
}
