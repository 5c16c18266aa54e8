// Package kafka runs Apache Kafka for tests: clusters of one or several brokers in KRaft mode on loopback, as child processes
// that a test kills, pauses, restarts and empties one by one. It needs Java and the jars of scripts/kafka, and refuses to
// download anything. Data is below a directory of the caller; a new cluster has none.
package kafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/convoflow/convoflow/test/internal/program"
)

// JarsVariable is the environment variable with the directory of Kafka's jars.
const JarsVariable = "TEST_KAFKA_JARS"

const (
	stopTimeout   = time.Minute
	startAttempts = 3 // another process may take a port between its choice and the start
	pollInterval  = 50 * time.Millisecond
)

// Options say what to start.
type Options struct {
	Dir     string // of all files; created if absent
	Jars    string // directory of Kafka's jars; that of JarsVariable when empty
	Brokers int    // of the cluster. Topics of three have three replicas, two of which acknowledge
	Ports   *program.Ports
}

// Cluster is a cluster of brokers, running or not. Its methods are safe for concurrent use as long as those about one broker
// are called one after another.
type Cluster struct {
	options Options
	id      string
	brokers []*broker
}

type broker struct {
	id                  int
	dir                 string
	address, controller string
	process             *program.Process // nil before the first start
}

// Start starts a new cluster and returns when all brokers serve. ctx limits the start, not the life of the cluster.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Jars == "" {
		o.Jars = os.Getenv(JarsVariable)
	}
	if jars, err := filepath.Glob(filepath.Join(o.Jars, "kafka_*.jar")); err != nil || len(jars) == 0 {
		return nil, fmt.Errorf("no Kafka in %q: scripts/kafka resolves it, and %s names its directory", o.Jars, JarsVariable)
	}
	var err error
	for range startAttempts {
		var c *Cluster
		if c, err = start(ctx, o); err == nil || ctx.Err() != nil {
			return c, err
		}
	}
	return nil, err
}

func start(ctx context.Context, o Options) (*Cluster, error) {
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	c := &Cluster{options: o, id: base64.RawURLEncoding.EncodeToString(id)}
	for i := range o.Brokers {
		b := &broker{id: i + 1, dir: filepath.Join(o.Dir, fmt.Sprintf("broker-%d", i+1))}
		for _, address := range []*string{&b.address, &b.controller} {
			var err error
			if *address, err = o.Ports.Free(); err != nil {
				return nil, err
			}
		}
		c.brokers = append(c.brokers, b)
	}
	for i := range c.brokers {
		if err := errors.Join(c.write(i), c.Wipe(ctx, i)); err != nil {
			return nil, err
		}
	}
	if err := c.StartAll(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Addresses returns the addresses of all brokers, for KAFKA_BROKERS.
func (c *Cluster) Addresses() []string {
	var all []string
	for _, b := range c.brokers {
		all = append(all, b.address)
	}
	return all
}

// Log returns what all brokers have logged since their last start.
func (c *Cluster) Log() string {
	var all strings.Builder
	for _, b := range c.brokers {
		if b.process != nil {
			fmt.Fprintf(&all, "broker %d:\n%s\n", b.id, program.Tail(b.process.Output.String()))
		}
	}
	return all.String()
}

// StartAll starts the brokers that do not run, on the data that they have, and returns when all serve.
func (c *Cluster) StartAll(ctx context.Context) error {
	for i, b := range c.brokers {
		if b.process == nil || b.process.Ended() {
			if err := c.launch(i); err != nil {
				return err
			}
		}
	}
	for _, b := range c.brokers {
		if err := b.awaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Kill is kill -9 of a broker.
func (c *Cluster) Kill(i int) { c.brokers[i].process.Kill() }

// KillAll is kill -9 of all brokers.
func (c *Cluster) KillAll() {
	for i := range c.brokers {
		c.Kill(i)
	}
}

// Stop stops a broker cleanly.
func (c *Cluster) Stop(i int) error {
	c.brokers[i].process.Signal(syscall.SIGTERM)
	_, err := c.brokers[i].process.Wait(stopTimeout)
	return err
}

// Pause stops a broker from doing anything, with its connections open, until Resume.
func (c *Cluster) Pause(i int) { c.brokers[i].process.Signal(syscall.SIGSTOP) }

// Resume continues a paused broker.
func (c *Cluster) Resume(i int) { c.brokers[i].process.Signal(syscall.SIGCONT) }

// Wipe removes all data of a broker that does not run: its next start is that of a new broker.
func (c *Cluster) Wipe(ctx context.Context, i int) error {
	b := c.brokers[i]
	if err := os.RemoveAll(filepath.Join(b.dir, "data")); err != nil {
		return fmt.Errorf("remove the data of broker %d: %w", b.id, err)
	}
	cmd := exec.CommandContext(ctx, "java", c.java("kafka.tools.StorageTool", "format", "-t", c.id, "-c", b.config())...)
	cmd.Env = c.environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format broker %d: %w\n%s", b.id, err, out)
	}
	return nil
}

// Close kills all brokers. Their data stays.
func (c *Cluster) Close() error {
	for _, b := range c.brokers {
		if b.process != nil {
			b.process.Kill()
		}
	}
	return nil
}

func (b *broker) config() string { return filepath.Join(b.dir, "server.properties") }

// logging goes to standard output, which the caller shows when something fails.
const logging = `rootLogger.level=warn
rootLogger.appenderRef.stdout.ref=stdout
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d{ISO8601} %p %c{1} %m%n
`

// write writes the configuration of a broker.
func (c *Cluster) write(i int) error {
	b := c.brokers[i]
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of broker %d: %w", b.id, err)
	}
	replicas, synced := 1, 1
	if len(c.brokers) >= 3 {
		replicas, synced = 3, 2
	}
	var voters []string
	for _, v := range c.brokers {
		voters = append(voters, fmt.Sprintf("%d@%s", v.id, v.controller))
	}
	settings := map[string]any{
		"process.roles": "broker,controller", "node.id": b.id, "controller.quorum.voters": strings.Join(voters, ","),
		"listeners":            fmt.Sprintf("PLAINTEXT://%s,CONTROLLER://%s", b.address, b.controller),
		"advertised.listeners": "PLAINTEXT://" + b.address, "inter.broker.listener.name": "PLAINTEXT",
		"controller.listener.names": "CONTROLLER", "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs":                   filepath.ToSlash(filepath.Join(b.dir, "data")),
		"default.replication.factor": replicas, "min.insync.replicas": synced,
		"offsets.topic.replication.factor": replicas, "offsets.topic.num.partitions": 10,
		"transaction.state.log.replication.factor": replicas, "transaction.state.log.min.isr": synced, "transaction.state.log.num.partitions": 1,
		"share.coordinator.state.topic.replication.factor": replicas, "share.coordinator.state.topic.min.isr": synced, "share.coordinator.state.topic.num.partitions": 1,
		"group.initial.rebalance.delay.ms": 0, "auto.create.topics.enable": false,
		// Threads for one or two cores; the defaults are for servers.
		"num.network.threads": 2, "num.io.threads": 4, "num.recovery.threads.per.data.dir": 1, "log.cleaner.dedupe.buffer.size": 8 << 20,
	}
	var text strings.Builder
	for name, value := range settings {
		fmt.Fprintf(&text, "%s=%v\n", name, value)
	}
	return errors.Join(
		os.WriteFile(b.config(), []byte(text.String()), 0o600),
		os.WriteFile(filepath.Join(c.options.Dir, "log4j2.properties"), []byte(logging), 0o600),
	)
}

// java returns the arguments of java. The heap and the compiler are for a broker that lives minutes.
func (c *Cluster) java(class string, arguments ...string) []string {
	return append([]string{
		"-Xms64m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true",
		"-Dlog4j2.configurationFile=" + filepath.Join(c.options.Dir, "log4j2.properties"),
		"-cp", filepath.Join(c.options.Jars, "*"), class,
	}, arguments...)
}

func (c *Cluster) environ() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "JAVA_HOME=" + os.Getenv("JAVA_HOME")}
}

func (c *Cluster) launch(i int) (err error) {
	b := c.brokers[i]
	b.process, err = program.Start(program.Program{
		Name: fmt.Sprintf("broker %d", b.id), Argv: append([]string{"java"}, c.java("kafka.Kafka", b.config())...), Environ: c.environ(), Dir: b.dir,
	})
	return err
}

// awaitReady waits until the broker listens, which it does once it has joined the cluster.
func (b *broker) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-b.process.Done():
			return fmt.Errorf("broker %d ended during its start:\n%s", b.id, program.Tail(b.process.Output.String()))
		case <-ctx.Done():
			return fmt.Errorf("broker %d does not serve: %w:\n%s", b.id, ctx.Err(), program.Tail(b.process.Output.String()))
		case <-tick.C:
		}
	}
}
