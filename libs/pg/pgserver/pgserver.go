// Package pgserver runs the machine's installed PostgreSQL as a child process. It owns a data directory, creates the cluster in
// it once, and starts and stops the server. It refuses to install PostgreSQL, to share a directory with another process and to
// upgrade data between major versions.
//
// If this process dies without calling Stop, the kernel interrupts postgres on Linux, which then shuts down cleanly. Elsewhere,
// or if that fails, the next Start on the directory finds the old server, stops it and starts a new one.
//
// PostgreSQL refuses to run as root. If this process is root, PostgreSQL runs as the user postgres, or nobody if there is no
// such user, and that user owns the directory. If that user may not enter a parent of the directory (such as a checkout under
// /root), the server gets the one Linux capability that lets it do so.
package pgserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/convoflow/convoflow/libs/lockdir"
)

const (
	superuser      = "postgres"
	maxConnections = 200
	// cannotConnectNow is the SQLSTATE of a server that is still starting.
	cannotConnectNow = "57P03"
	pollInterval     = 10 * time.Millisecond
	// killGrace is how long a server may take to stop before it gets the next stronger signal. In an immediate shutdown,
	// PostgreSQL itself waits 5 s before it kills a hung backend.
	killGrace = 8 * time.Second
)

// Options say where and how a server runs.
type Options struct {
	// Dir contains all files of the server: cluster (data), password, lock, log. It is created if absent. It must be new, empty
	// or from an earlier Start.
	Dir string
	// Log gets slow and unusual events. Neither it nor postgres.log contains statements or values.
	Log *slog.Logger
	// Bin is the directory with postgres and initdb. If empty, PATH and the directories of packages are searched, newest first.
	Bin string
	// Port to listen on at 127.0.0.1; 0 means any free port.
	Port int
	// Fast trades durability for speed. For tests only: a crash of the machine destroys the cluster.
	Fast bool
}

// Server is a running PostgreSQL. All methods are safe for concurrent use.
type Server struct {
	port     int
	password string
	unlock   func()
	process  *os.Process
	stopping chan struct{} // buffered: holds one token once Stop was called
	done     chan struct{}
	err      error // set before done is closed
}

// Start creates the cluster in o.Dir if there is none, and starts a server on it. It returns when the server accepts
// connections, or with an error that ends with the last lines of the server's log. ctx limits the start and not the lifetime
// of the server; without a deadline, Start waits until the server accepts connections or exits.
func Start(ctx context.Context, o Options) (*Server, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the directory of postgres: %w", err)
	}
	acc, err := findAccount(dir)
	if err != nil {
		return nil, err
	}
	if err := acc.mkdir(dir); err != nil {
		return nil, err
	}
	unlock, err := lockdir.Lock(dir)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, o, dir, acc, unlock)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("start postgres in %s: %w", dir, err)
	}
	return s, nil
}

func start(ctx context.Context, o Options, dir string, acc account, unlock func()) (*Server, error) {
	data := filepath.Join(dir, "data")
	bin, err := findBinaries(ctx, o.Bin, dataVersion(data))
	if err != nil {
		return nil, err
	}
	if err := stopStale(ctx, data, o.Log); err != nil {
		return nil, err
	}
	password, err := createCluster(ctx, bin, dir, acc, o)
	if err != nil {
		return nil, err
	}
	port, err := freePort(o.Port)
	if err != nil {
		return nil, err
	}
	s := &Server{port: port, password: password, unlock: unlock, stopping: make(chan struct{}, 1), done: make(chan struct{})}
	logFile := filepath.Join(dir, "postgres.log")
	if err := s.launch(acc.command(context.WithoutCancel(ctx), filepath.Join(bin, "postgres"), serverArgs(data, port, o.Fast)...), logFile); err != nil {
		return nil, err
	}
	if err := s.awaitReady(ctx); err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killGrace)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("%w; the end of %s:\n%s", err, logFile, lastLines(logFile, 8)), s.Stop(stopCtx))
	}
	return s, nil
}

func serverArgs(data string, port int, fast bool) []string {
	args := []string{"-D", data, "-p", strconv.Itoa(port)}
	settings := []string{
		"listen_addresses=127.0.0.1",
		"unix_socket_directories=", // a path over 107 bytes would be an error, and nothing uses the socket
		"max_connections=" + strconv.Itoa(maxConnections),
		"timezone=UTC", "log_timezone=UTC",
		"log_destination=stderr", "logging_collector=off", "log_checkpoints=off",
		// Only the server's own events: statements and error details can contain personal data.
		"log_min_messages=log", "log_min_error_statement=panic", "log_error_verbosity=terse",
	}
	if fast {
		settings = append(settings, "max_connections="+strconv.Itoa(3*maxConnections), "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	return args
}

// launch starts cmd in its own process group, so that Ctrl-C in the terminal signals this process alone. It renames the log of
// the previous run.
func (s *Server) launch(cmd *exec.Cmd, logFile string) error {
	if err := os.Rename(logFile, logFile+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rename the old log: %w", err)
	}
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout, cmd.Stderr = out, out

	started := make(chan error)
	go func() {
		// The kernel sends the parent death signal when the thread that started the child ends, so that thread must outlive it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("run %s: %w", cmd.Path, err)
			return
		}
		s.process = cmd.Process
		started <- nil
		s.exited(cmd.Wait())
	}()
	return <-started
}

func (s *Server) exited(err error) {
	if len(s.stopping) == 0 {
		s.err = errors.New("postgres exited unexpectedly")
		if err != nil {
			s.err = fmt.Errorf("postgres exited unexpectedly: %w", err)
		}
	}
	s.unlock()
	close(s.done)
}

func (s *Server) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		if refusal := (*pgconn.PgError)(nil); errors.As(err, &refusal) && refusal.Code != cannotConnectNow {
			return fmt.Errorf("connect: %w", err)
		}
		select {
		case <-s.done:
			return s.Err()
		case <-ctx.Done():
			return fmt.Errorf("wait until it accepts connections: %w (last error: %w)", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// URL returns the superuser's connection string for a database; "postgres" always exists. It contains the password.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Done returns a channel that is closed when the server has exited for any reason.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns why the server exited unexpectedly. It is nil while the server runs and after Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop shuts the server down and waits for it to exit. The server closes open connections, rolls back their transactions and
// writes a checkpoint (a fast shutdown). If ctx ends first, Stop requests an immediate shutdown, which takes up to 8 s more
// and after which the next start recovers from the write-ahead log; Stop then returns an error. Further calls only wait.
func (s *Server) Stop(ctx context.Context) error {
	select {
	case s.stopping <- struct{}{}:
		_ = s.process.Signal(syscall.SIGINT)
	default:
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		_ = s.process.Signal(sig)
		select {
		case <-s.done:
			return fmt.Errorf("shut postgres down cleanly: %w", ctx.Err())
		case <-time.After(killGrace):
		}
	}
	return errors.New("stop postgres: it is still running after SIGKILL")
}

// createCluster creates the cluster in dir/data unless it exists, and returns the superuser's password. An interrupted attempt
// is discarded: only a complete cluster is renamed to dir/data.
func createCluster(ctx context.Context, bin, dir string, acc account, o Options) (string, error) {
	data, unfinished, passwordFile := filepath.Join(dir, "data"), filepath.Join(dir, "data.init"), filepath.Join(dir, "password")
	if dataVersion(data) != "" {
		password, err := os.ReadFile(passwordFile)
		if err != nil {
			return "", fmt.Errorf("read the superuser's password: %w", err)
		}
		return string(password), nil
	}
	if _, err := os.Lstat(data); err == nil {
		return "", fmt.Errorf("%s is not a PostgreSQL data directory: empty it or choose another", data)
	}
	o.Log.InfoContext(ctx, "creating a PostgreSQL cluster", "dir", data)
	if err := os.RemoveAll(unfinished); err != nil {
		return "", fmt.Errorf("remove an unfinished cluster: %w", err)
	}
	password := rand.Text()
	if err := acc.writeFile(passwordFile, password); err != nil {
		return "", err
	}
	auth := "scram-sha-256"
	if o.Fast {
		auth = "md5" // tests connect thousands of times, and SCRAM hashes the password 4096 times for each
	}
	args := []string{
		"--pgdata", unfinished, "--username", superuser, "--pwfile", passwordFile, "--auth", auth,
		"--encoding", "UTF8", "--locale", "C", "--lc-ctype", ctype, "--no-instructions",
	}
	if o.Fast {
		args = append(args, "--no-sync")
	}
	runtime.LockOSThread() // as in launch
	defer runtime.UnlockOSThread()
	if out, err := acc.command(ctx, filepath.Join(bin, "initdb"), args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, bytes.TrimSpace(out))
	}
	if err := os.Rename(unfinished, data); err != nil {
		return "", fmt.Errorf("rename the new cluster: %w", err)
	}
	return password, nil
}

// dataVersion returns the major version of the cluster in data, or "" if there is none.
func dataVersion(data string) string {
	v, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(v))
}

// stopStale stops a server on data that a killed process left running. The caller holds the lock, so no process uses it.
func stopStale(ctx context.Context, data string, log *slog.Logger) error {
	pidFile := filepath.Join(data, "postmaster.pid")
	content, err := os.ReadFile(pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read postmaster.pid: %w", err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil || pid <= 1 {
		return nil // postgres itself says what is wrong with the file
	}
	if err := stopServer(ctx, pid, data, log); err != nil {
		return err
	}
	// The children of a server that was killed end when they notice it. Until then postgres refuses to start.
	if err := awaitChildren(ctx, string(content), log); err != nil {
		return err
	}
	// A server that was killed left the file. Its pid may be that of a zombie or of another program by now, and postgres would refuse to
	// start while that exists.
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a stale postmaster.pid: %w", err)
	}
	return nil
}

// stopServer stops process pid if it is a server on data.
func stopServer(ctx context.Context, pid int, data string, log *slog.Logger) error {
	running, err := isPostmaster(pid, data)
	if !running || err != nil {
		return err
	}
	log.WarnContext(ctx, "stopping the PostgreSQL server that an earlier run left running", "pid", pid)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the postgres process %d of an earlier run: %w", pid, err)
		}
		stopped, err := await(ctx, func() (bool, error) {
			running, err := isPostmaster(pid, data)
			return !running, err
		})
		if stopped || err != nil {
			return err
		}
	}
	return fmt.Errorf("the postgres process %d of an earlier run does not stop", pid)
}

// awaitChildren waits until no child of a killed server uses its shared memory, which the seventh line of postmaster.pid names. pidFile
// is the content of that file.
func awaitChildren(ctx context.Context, pidFile string, log *slog.Logger) error {
	lines := strings.Split(pidFile, "\n")
	if len(lines) < 7 {
		return nil
	}
	ids := strings.Fields(lines[6]) // key and id
	if len(ids) != 2 || !sharedMemoryInUse(ids[1]) {
		return nil
	}
	log.WarnContext(ctx, "waiting for processes of a PostgreSQL server that was killed")
	ended, err := await(ctx, func() (bool, error) { return !sharedMemoryInUse(ids[1]), nil })
	if err == nil && !ended {
		err = fmt.Errorf("processes of a PostgreSQL server that was killed do not end: they use the shared memory %s", ids[1])
	}
	return err
}

// await waits up to killGrace until a condition is true, and reports whether it is.
func await(ctx context.Context, condition func() (bool, error)) (bool, error) {
	deadline := time.NewTimer(killGrace)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		ok, err := condition()
		if ok || err != nil {
			return ok, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-deadline.C:
			return false, nil
		case <-tick.C:
		}
	}
}

// freePort checks that the wanted port is free, or finds a free port if wanted is 0. If another process takes the port before
// postgres does, the start fails and its error says so.
func freePort(wanted int) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(wanted)))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func lastLines(file string, n int) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
