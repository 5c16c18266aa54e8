package broker_test

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/scram"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/platform/internal/broker"
)

const (
	topic = "calls.calls.v1"
	group = "crm"

	password = "password of the broker"
	// childEnv names a directory. If it is set, the test binary runs a broker there, prints its address and waits to be killed.
	childEnv = "BROKER_TEST_CHILD"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		b, err := broker.Start(context.Background(), broker.Options{Dir: dir, Password: password, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(b.Addr())
		select {}
	}
	os.Exit(m.Run())
}

func start(t testing.TB, dir string) *broker.Broker {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Options{Dir: dir, Password: password, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close(context.WithoutCancel(t.Context())) })
	return b
}

// startChild starts a broker in a process that can be killed.
func startChild(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	addr, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return cmd, strings.TrimSpace(addr)
}

func login(t testing.TB, password string) sasl.Mechanism {
	t.Helper()
	require.Equal(t, "scram-sha-256", broker.Mechanism)
	m, err := scram.Mechanism(scram.SHA256, broker.User, password)
	require.NoError(t, err)
	return m
}

func transport(t testing.TB, password string) *kafka.Transport {
	t.Helper()
	transport := &kafka.Transport{SASL: login(t, password)}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func dialer(t testing.TB) *kafka.Dialer {
	t.Helper()
	return &kafka.Dialer{Timeout: time.Minute, SASLMechanism: login(t, password)}
}

func createTopic(t testing.TB, addr string, config ...kafka.ConfigEntry) {
	t.Helper()
	client := &kafka.Client{Addr: kafka.TCP(addr), Timeout: time.Minute, Transport: transport(t, password)}
	answer, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{
		{Topic: topic, NumPartitions: 2, ReplicationFactor: -1, ConfigEntries: config},
	}})
	require.NoError(t, err)
	require.NoError(t, answer.Errors[topic])
}

func newWriter(t testing.TB, addr string) *kafka.Writer {
	t.Helper()
	w := &kafka.Writer{
		Addr: kafka.TCP(addr), Topic: topic, Balancer: &kafka.Hash{}, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond,
		Transport: transport(t, password),
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func newReader(t testing.TB, addr string, change ...func(*kafka.ReaderConfig)) *kafka.Reader {
	t.Helper()
	cfg := kafka.ReaderConfig{
		Brokers: []string{addr}, GroupID: group, Topic: topic, StartOffset: kafka.FirstOffset, MaxWait: 100 * time.Millisecond,
		Dialer: dialer(t),
	}
	for _, f := range change {
		f(&cfg)
	}
	r := kafka.NewReader(cfg)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func write(t testing.TB, w *kafka.Writer, values ...string) {
	t.Helper()
	var messages []kafka.Message
	for _, v := range values {
		messages = append(messages, kafka.Message{Key: []byte(v), Value: []byte(v)})
	}
	require.NoError(t, w.WriteMessages(t.Context(), messages...))
}

// read fetches n messages, and commits them if commit is true.
func read(t testing.TB, r *kafka.Reader, n int, commit bool) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var values []string
	for range n {
		m, err := r.FetchMessage(ctx)
		require.NoError(t, err, "after %d of %d", len(values), n)
		values = append(values, string(m.Value))
		if commit {
			require.NoError(t, r.CommitMessages(ctx, m))
		}
	}
	return values
}

func TestMessagesAndOffsetsSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, dir)
	createTopic(t, first.Addr())
	write(t, newWriter(t, first.Addr()), "a", "b", "c")
	r := newReader(t, first.Addr())
	require.ElementsMatch(t, []string{"a", "b", "c"}, read(t, r, 3, true))
	require.NoError(t, r.Close())
	write(t, newWriter(t, first.Addr()), "d", "e")
	require.NoError(t, first.Close(t.Context()))

	second := start(t, dir)
	write(t, newWriter(t, second.Addr()), "f")
	require.ElementsMatch(t, []string{"d", "e", "f"}, read(t, newReader(t, second.Addr()), 3, true))
}

// A consumer that did not leave its group before the restart must not delay the next one until its session expires.
func TestARestartRemovesConsumersThatDidNotLeave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, dir)
	createTopic(t, first.Addr())
	write(t, newWriter(t, first.Addr()), "a")
	const session = 4 * time.Minute // far longer than reading takes on a busy machine
	consumer := newReader(t, first.Addr(), func(c *kafka.ReaderConfig) { c.SessionTimeout = session })
	read(t, consumer, 1, true)
	require.NoError(t, first.Close(t.Context()))
	require.FileExists(t, filepath.Join(dir, "session_state.json"))

	second := start(t, dir)
	write(t, newWriter(t, second.Addr()), "b")
	ctx, cancel := context.WithTimeout(t.Context(), session/2)
	defer cancel()
	m, err := newReader(t, second.Addr()).FetchMessage(ctx)
	require.NoError(t, err)
	require.Equal(t, "b", string(m.Value))
}

func TestAcknowledgedMessagesSurviveAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var acknowledged []string
	for round := range 3 {
		child, addr := startChild(t, dir)
		if round == 0 {
			createTopic(t, addr)
		}
		acknowledged = append(acknowledged, writeUntilKilled(t, child, addr, round)...)
	}
	addr := start(t, dir).Addr()
	stored := map[string]bool{}
	for _, p := range []int{0, 1} {
		readPartition(t, addr, p, stored)
	}
	for _, v := range acknowledged {
		require.True(t, stored[v], "%s was acknowledged and is lost", v)
	}
}

// writeUntilKilled kills the broker while four producers write, and returns the acknowledged messages.
func writeUntilKilled(t *testing.T, child *exec.Cmd, addr string, round int) []string {
	t.Helper()
	const producers, killAfter = 4, 200
	w := newWriter(t, addr)
	w.MaxAttempts = 1
	acks := make(chan string, producers)
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for i := 0; ; i++ {
				v := fmt.Sprintf("%d-%d-%d", round, p, i)
				if w.WriteMessages(t.Context(), kafka.Message{Key: []byte(v), Value: []byte(v)}) != nil {
					return
				}
				acks <- v
			}
		})
	}
	go func() {
		wg.Wait()
		close(acks)
	}()
	var acknowledged []string
	for v := range acks {
		acknowledged = append(acknowledged, v)
		if len(acknowledged) == killAfter {
			require.NoError(t, child.Process.Kill())
		}
	}
	_ = child.Wait()
	require.GreaterOrEqual(t, len(acknowledged), killAfter)
	return acknowledged
}

func readPartition(t *testing.T, addr string, partition int, stored map[string]bool) {
	t.Helper()
	conn, err := dialer(t).DialLeader(t.Context(), "tcp", addr, topic, partition)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	last, err := conn.ReadLastOffset()
	require.NoError(t, err)
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{addr}, Topic: topic, Partition: partition, MaxWait: 100 * time.Millisecond, Dialer: dialer(t)})
	defer func() { _ = r.Close() }()
	for r.Offset() < last {
		m, err := r.ReadMessage(t.Context())
		require.NoError(t, err)
		stored[string(m.Value)] = true
	}
}

func TestCommittedOffsetsSurviveAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	child, addr := startChild(t, dir)
	createTopic(t, addr)
	write(t, newWriter(t, addr), "a", "b", "c")
	r := newReader(t, addr)
	done := read(t, r, 2, true)
	require.NoError(t, child.Process.Kill())
	_ = child.Wait()

	rest := read(t, newReader(t, start(t, dir).Addr()), 1, true)
	require.ElementsMatch(t, []string{"a", "b", "c"}, append(done, rest...))
}

// Compaction and retention are not crash-safe in kfake, so the broker must disable them, even if a topic enables them.
func TestNothingIsDeleted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := start(t, dir)
	createTopic(t, b.Addr(),
		kafka.ConfigEntry{ConfigName: "cleanup.policy", ConfigValue: "compact,delete"}, kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: "1"})
	w := newWriter(t, b.Addr())
	for range 3 {
		write(t, w, "same key")
	}
	require.Equal(t, []string{"same key", "same key", "same key"}, read(t, newReader(t, b.Addr()), 3, false))

	client := &kafka.Client{Addr: kafka.TCP(b.Addr()), Timeout: time.Minute, Transport: transport(t, password)}
	answer, err := client.DescribeConfigs(t.Context(), &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeBroker, ResourceName: "0", ConfigNames: []string{"log.cleaner.backoff.ms", "log.retention.ms"}},
	}})
	require.NoError(t, err)
	require.Len(t, answer.Resources, 1)
	values := map[string]string{}
	for _, e := range answer.Resources[0].ConfigEntries {
		values[e.ConfigName] = e.ConfigValue
	}
	require.Equal(t, map[string]string{"log.cleaner.backoff.ms": "3153600000000", "log.retention.ms": "-1"}, values)
}

func TestTopicsAreNotCreatedOnFirstUse(t *testing.T) {
	t.Parallel()
	w := newWriter(t, start(t, t.TempDir()).Addr())
	w.AllowAutoTopicCreation = true
	w.MaxAttempts = 1
	require.ErrorIs(t, w.WriteMessages(t.Context(), kafka.Message{Value: []byte("a")}), kafka.UnknownTopicOrPartition)
}

func TestAClientWithoutThePasswordIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, password := range []string{password, "another password after a restart"} {
		b, err := broker.Start(t.Context(), broker.Options{Dir: dir, Password: password, Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		metadata := func(as *kafka.Transport) error {
			defer as.CloseIdleConnections()
			client := &kafka.Client{Addr: kafka.TCP(b.Addr()), Timeout: time.Minute, Transport: as}
			_, err := client.Metadata(t.Context(), &kafka.MetadataRequest{})
			return err
		}
		require.Error(t, metadata(&kafka.Transport{}), "no user")
		require.Error(t, metadata(transport(t, "guess")))
		require.NoError(t, metadata(transport(t, password)), "the password of this run, and not one that was stored")
		require.NoError(t, b.Close(t.Context()))
	}
	_, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "no password")
}

// The data of an earlier version, and what kfake creates, may be readable by everybody.
func TestOnlyTheOwnerCanReadTheData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	first := start(t, dir)
	createTopic(t, first.Addr())
	write(t, newWriter(t, first.Addr()), "a")
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), "nobody else can reach a file while the broker runs")
	require.NoError(t, first.Close(t.Context()))
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s: %s", path, info.Mode())
		return nil
	}))
}

func TestOneProcessPerDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, dir)
	_, err := broker.Start(t.Context(), broker.Options{Dir: dir, Password: password, Log: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "used by another running process")
	require.NoError(t, first.Close(t.Context()))
	require.NoError(t, start(t, dir).Close(t.Context()))
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	_, err = broker.Start(t.Context(), broker.Options{
		Dir: t.TempDir(), Password: password, Log: slog.New(slog.DiscardHandler), Port: l.Addr().(*net.TCPAddr).Port,
	})
	require.ErrorContains(t, err, "address already in use")

	damaged := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(damaged, "meta.json"), []byte("{"), fs.FileMode(0o600)))
	_, err = broker.Start(t.Context(), broker.Options{Dir: damaged, Password: password, Log: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "meta.json")
}
