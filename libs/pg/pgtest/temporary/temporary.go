// Package temporary runs a PostgreSQL server while a function runs. It is separate from pgtest so that the command
// with-postgres has few dependencies.
package temporary

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

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

func serve(ctx context.Context) (stop func() error, err error) {
	dir, err := os.MkdirTemp("", "convoflow-postgres-")
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
