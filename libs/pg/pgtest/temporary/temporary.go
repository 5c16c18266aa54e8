// Package temporary runs a PostgreSQL server while a function runs. It is separate from pgtest so that the command
// with-postgres has few dependencies.
package temporary

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/convoflow/convoflow/libs/lockdir"
	"github.com/convoflow/convoflow/libs/pg/pgserver"
)

// URLVariable is the environment variable with the superuser's connection string of the server to use.
const URLVariable = "TEST_DATABASE_URL"

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = time.Minute

	// exitInterrupted is the shell's exit code for a program ended by SIGINT: 128 + 2.
	exitInterrupted = 130
)

// With starts a temporary server and sets TEST_DATABASE_URL, unless that is already set. It calls f, stops the server and
// returns f's exit code, or 1 if the server could not be started or stopped. SIGINT and SIGTERM are sent to f instead of
// ending the process.
func With(f func(signals <-chan os.Signal) int) int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if os.Getenv(URLVariable) != "" {
		return f(signals)
	}
	stop, err := serve(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return 1
	}
	code := f(signals)
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return max(code, 1)
	}
	return code
}

// Run is With for a function that cannot be interrupted: a signal ends it with the shell's exit code, and the server is stopped.
func Run(f func() int) int {
	return With(func(signals <-chan os.Signal) int {
		code := make(chan int, 1)
		go func() { code <- f() }()
		select {
		case c := <-code:
			return c
		case <-signals:
			return exitInterrupted
		}
	})
}

// Directories of servers: prefix and a random number.
const prefix = "convoflow-postgres-"

// memory is a file system in memory on Linux. Each test makes and drops a few hundred files in its schema, which on a disk can take
// three times the CPU time of what the test does with them.
const (
	memory       = "/dev/shm"
	memoryNeeded = 4 << 30 // free; in a container there may be 64 MB
)

// parent returns the directory for the directories of servers: TMPDIR if it is set, memory if that is large enough, or /tmp.
func parent() string {
	var fs syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(memory, &fs) != nil || fs.Bavail*uint64(fs.Bsize) < memoryNeeded {
		return os.TempDir()
	}
	removeStale(memory)
	return memory
}

// removeStale removes what killed test binaries left: complete clusters that no process uses.
func removeStale(parent string) {
	clusters, _ := filepath.Glob(filepath.Join(parent, prefix+"*", "data", "PG_VERSION")) // fails only if the pattern is wrong
	for _, file := range clusters {
		dir := filepath.Dir(filepath.Dir(file))
		if unlock, err := lockdir.Lock(dir); err == nil {
			_ = os.RemoveAll(dir) // or the next one does
			unlock()
		}
	}
}

func serve(ctx context.Context) (stop func() error, err error) {
	dir, err := os.MkdirTemp(parent(), prefix)
	if err != nil {
		return nil, fmt.Errorf("create a directory for postgres: %w", err)
	}
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	server, err := pgserver.Start(startCtx, pgserver.Options{
		Dir: dir, Log: slog.New(slog.DiscardHandler), Bin: os.Getenv("POSTGRES_BIN"), Fast: true,
	})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	if err := os.Setenv(URLVariable, server.URL("postgres")); err != nil {
		return nil, fmt.Errorf("set %s: %w", URLVariable, err)
	}
	return func() error {
		stopCtx, cancel := context.WithTimeout(ctx, stopTimeout)
		defer cancel()
		if err := server.Stop(stopCtx); err != nil {
			return err
		}
		return os.RemoveAll(dir)
	}, nil
}
