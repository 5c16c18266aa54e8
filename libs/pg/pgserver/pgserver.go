// Package pgserver runs the machine's own PostgreSQL as a child process: it owns a data directory, makes the cluster in it
// once, and starts and stops the server. It refuses to install PostgreSQL, to share a directory with another process and to
// upgrade data between major versions.
//
// What happens when this process dies without calling Stop: on Linux the kernel interrupts postgres, which then shuts down
// in order. Where that fails, the next Start on the directory finds the old server, stops it and starts afresh.
//
// PostgreSQL refuses to run as root. Started by root, it runs as the user postgres, or nobody where there is none, and owns
// its directory. Where that user may not enter a parent of the directory (a checkout under /root), it is given the one Linux
// capability that lets it pass.
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
)

const (
	superuser      = "postgres"
	lockName       = "lock"
	maxConnections = 200
	// cannotConnectNow is the SQLSTATE of a server that is still starting.
	cannotConnectNow = "57P03"
	pollInterval     = 10 * time.Millisecond
	// killGrace is how long a server that did not obey gets for the next harder signal. PostgreSQL itself gives a hung backend
	// 5 s in an immediate shutdown before it kills it.
	killGrace = 8 * time.Second
)

// Options say where and how a server runs.
type Options struct {
	// Dir holds everything of the server: cluster (data), password, lock, log. Made if absent. It must be new, empty or from
	// an earlier Start.
	Dir string
	// Log hears what takes long or is unusual. Never a statement or a value: those are not in postgres.log either.
	Log *slog.Logger
	// Bin is the directory with postgres and initdb; empty looks in PATH and where packages install them, newest first.
	Bin string
	// Port to listen on at 127.0.0.1; 0 takes a free one.
	Port int
	// Fast gives up durability for speed. For tests only: a crash of the machine loses the cluster.
	Fast bool
}

// Server is a running PostgreSQL. All methods are safe for concurrent use.
type Server struct {
	port     int
	password string
	lock     *os.File
	process  *os.Process
	stopping chan struct{} // buffered: holds one token once Stop was called
	done     chan struct{}
	err      error // set before done is closed
}

// Start makes the cluster in o.Dir if there is none, and starts a server on it. It returns when the server answers, or with
// an error that ends with the last lines of the server's log. ctx bounds the start and not the life of the server; without a
// deadline a server that never answers is waited for until it exits.
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
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, o, dir, acc, lock)
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("start postgres in %s: %w", dir, err)
	}
	return s, nil
}

func start(ctx context.Context, o Options, dir string, acc account, lock *os.File) (*Server, error) {
	data := filepath.Join(dir, "data")
	bin, err := findBinaries(ctx, o.Bin, dataVersion(data))
	if err != nil {
		return nil, err
	}
	if err := stopStale(ctx, data, o.Log); err != nil {
		return nil, err
	}
	password, err := makeCluster(ctx, bin, dir, acc, o)
	if err != nil {
		return nil, err
	}
	port, err := freePort(o.Port)
	if err != nil {
		return nil, err
	}
	s := &Server{port: port, password: password, lock: lock, stopping: make(chan struct{}, 1), done: make(chan struct{})}
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
		"unix_socket_directories=", // a path over 107 bytes would be an error, and nobody needs the socket
		"max_connections=" + strconv.Itoa(maxConnections),
		"timezone=UTC", "log_timezone=UTC",
		"log_destination=stderr", "logging_collector=off", "log_checkpoints=off",
		// Only the server's own events: statements and error details would carry personal data.
		"log_min_messages=log", "log_min_error_statement=panic", "log_error_verbosity=terse",
	}
	if fast {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	return args
}

// launch starts cmd in a process group of its own, so that a Ctrl-C in the terminal reaches this process alone. The log of
// the run before is kept beside the new one.
func (s *Server) launch(cmd *exec.Cmd, logFile string) error {
	if err := os.Rename(logFile, logFile+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put the old log aside: %w", err)
	}
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout, cmd.Stderr = out, out

	started := make(chan error)
	go func() {
		// The death signal of a child is tied to the thread that made it, so that thread stays until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("run %s: %w", cmd.Path, err)
			return
		}
		s.process = cmd.Process
		started <- nil
		s.ended(cmd.Wait())
	}()
	return <-started
}

func (s *Server) ended(err error) {
	if len(s.stopping) == 0 {
		s.err = errors.New("postgres ended by itself")
		if err != nil {
			s.err = fmt.Errorf("postgres ended by itself: %w", err)
		}
	}
	_ = s.lock.Close()
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
			return fmt.Errorf("wait until it answers: %w (last: %w)", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// URL is the superuser's connection string for a database; "postgres" always exists. It contains the password.
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

// Done is closed when the server has ended, whoever ended it.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says why the server ended: nil while it runs and after Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop shuts the server down and waits: it cuts open connections, rolls their transactions back and writes a checkpoint.
// When ctx ends first, the server is told to exit at once (the next start recovers from its log), which takes up to 8 s more,
// and that is the error. Further calls only wait.
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
			return fmt.Errorf("stop postgres in order: %w", ctx.Err())
		case <-time.After(killGrace):
		}
	}
	return errors.New("stop postgres: it survived SIGKILL")
}

// makeCluster makes the cluster in dir/data unless it is there, and returns the superuser's password. An interrupted one is
// made again from the beginning: only a complete cluster gets its final name.
func makeCluster(ctx context.Context, bin, dir string, acc account, o Options) (string, error) {
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
	o.Log.InfoContext(ctx, "making a new PostgreSQL cluster", "dir", data)
	if err := os.RemoveAll(unfinished); err != nil {
		return "", fmt.Errorf("remove an unfinished cluster: %w", err)
	}
	password := rand.Text()
	if err := acc.writeFile(passwordFile, password); err != nil {
		return "", err
	}
	args := []string{
		"--pgdata", unfinished, "--username", superuser, "--pwfile", passwordFile, "--auth", "scram-sha-256",
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
		return "", fmt.Errorf("keep the new cluster: %w", err)
	}
	return password, nil
}

// dataVersion is the major version of the cluster in data, "" if there is none.
func dataVersion(data string) string {
	v, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(v))
}

// lockDir makes sure that one process at a time uses dir. The kernel drops the lock when the process dies.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of %s: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s is used by another running process: stop it or choose another directory", dir)
	}
	return f, nil
}

// stopStale stops the server that a killed process left behind on data. The caller holds the lock, so nobody needs it.
func stopStale(ctx context.Context, data string, log *slog.Logger) error {
	pidFile := filepath.Join(data, "postmaster.pid")
	content, err := os.ReadFile(pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read who used the data before: %w", err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil || pid <= 1 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return nil // postgres sees that itself, and also waits for the children of a killed server
	}
	running, err := isPostmaster(pid, data)
	if err != nil {
		return err
	}
	if !running {
		// The number belongs to something else by now, and postgres would refuse to start while that lives.
		if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a stale postmaster.pid: %w", err)
		}
		return nil
	}
	log.WarnContext(ctx, "stopping the PostgreSQL that an earlier run left behind", "pid", pid)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the left-behind postgres %d: %w", pid, err)
		}
		gone, err := awaitGone(ctx, pid, data)
		if gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("the postgres of an earlier run, process %d, does not stop", pid)
}

// awaitGone gives a server killGrace to end.
func awaitGone(ctx context.Context, pid int, data string) (bool, error) {
	deadline := time.NewTimer(killGrace)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		running, err := isPostmaster(pid, data)
		if !running || err != nil {
			return !running, err
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

// freePort makes sure that wanted is free, or finds a port if it is 0. Another process could still take it before postgres
// does; the start then fails and says so.
func freePort(wanted int) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(wanted)))
	if err != nil {
		return 0, fmt.Errorf("take a port: %w", err)
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
