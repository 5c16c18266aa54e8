// Package broker is the Kafka-compatible broker in the platform's process: franz-go's kfake, which stores its data on disk and
// syncs every write before it acknowledges it, so that restarts and kill -9 lose no acknowledged records. It owns its data
// directory. It refuses to delete old records, which is not crash-safe in kfake (see settings), and to use a directory that
// another process uses.
//
// It is a single node on a loopback address. Every user of the machine can connect to it, so it requires a password (SASL with
// SCRAM-SHA-256), and only the user who runs it can read its data. KAFKA_BROKERS replaces it with a real Kafka.
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

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/convoflow/convoflow/libs/lockdir"
)

// settings keep every record forever. Retention and compaction are not crash-safe in kfake: compaction deletes old segments
// before it writes the new ones, and a partition emptied by retention starts again at offset 0 after a restart, below the
// committed offsets. Both are run by one timer, which is set to 100 years.
var settings = map[string]string{
	"log.cleaner.backoff.ms": "3153600000000",
	"log.retention.ms":       "-1",
}

// sessionFile is where kfake stores the members of consumer groups across a clean restart. All members were in the process that
// ended, and a new consumer would wait until their sessions expire.
const sessionFile = "session_state.json"

// userFile is where kfake stores its users. It would replace the user of Options.
const userFile = "sasl.json"

// User and Mechanism are what a client authenticates with, besides the password of Options. Mechanism is written as in
// KAFKA_SASL_MECHANISM.
const (
	User      = "convoflow"
	Mechanism = "scram-sha-256"
)

// Options say where the broker stores its data and where it listens.
type Options struct {
	Dir      string       // created if absent
	Password string       // of User; required
	Log      *slog.Logger // gets the broker's log
	Port     int          // at 127.0.0.1; 0 means any free port
}

// Broker is a running broker.
type Broker struct {
	dir     string
	log     *slog.Logger
	cluster *kfake.Cluster
	addr    string
	unlock  func()
}

// Start starts a broker on the data in o.Dir. Clients must create topics; they are not created on first use.
func Start(ctx context.Context, o Options) (*Broker, error) {
	if o.Password == "" {
		return nil, errors.New("the broker has no password")
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the broker's directory: %w", err)
	}
	unlock, err := lockdir.Lock(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(remove(o.Dir, sessionFile), remove(o.Dir, userFile), protect(o.Dir)); err != nil {
		unlock()
		return nil, fmt.Errorf("prepare the broker's directory: %w", err)
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.Ports(o.Port),
		kfake.ClusterID("convoflow"),
		kfake.EnableSASL(),
		kfake.Superuser(strings.ToUpper(Mechanism), User, o.Password),
		kfake.DataDir(o.Dir),
		kfake.SyncWrites(),
		kfake.BrokerConfigs(settings),
		kfake.WithLogger(logger{ctx: context.WithoutCancel(ctx), log: o.Log}),
	)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("start the broker on %s: %w", o.Dir, err)
	}
	return &Broker{dir: o.Dir, log: o.Log, cluster: cluster, addr: cluster.ListenAddrs()[0], unlock: unlock}, nil
}

func remove(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// protect makes everything in dir accessible by its owner only. kfake creates files that anybody may read; the mode of dir itself
// protects them while the broker runs.
func protect(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		mode := fs.FileMode(0o600)
		switch {
		case err != nil:
			return err
		case d.IsDir():
			mode = 0o700
		case !d.Type().IsRegular():
			return nil
		}
		return root.Chmod(path, mode)
	})
}

// Addr returns the broker's address, host:port.
func (b *Broker) Addr() string { return b.addr }

// Close stops the broker and writes a snapshot, which makes the next start fast. It closes all connections, so stop consumers and
// producers first. If ctx ends before the broker has stopped, Close returns an error; no acknowledged record is lost.
func (b *Broker) Close(ctx context.Context) error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		b.cluster.Close()
		if err := protect(b.dir); err != nil {
			b.log.WarnContext(ctx, "the files of the broker may be readable by others", "error", err)
		}
		b.unlock()
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the broker: %w", ctx.Err())
	}
}

// logger forwards kfake's log, which never contains records.
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
	default: // request logs are only for debugging
	}
	if l.log.Enabled(l.ctx, to) {
		l.log.Log(l.ctx, to, "embedded broker", "text", strings.TrimSpace(fmt.Sprintf(msg, args...)))
	}
}
