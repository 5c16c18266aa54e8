package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/platform"
)

const (
	readyTimeout = 30 * time.Second
	logLimit     = 50 << 20 // bytes, after which a start begins a new log and keeps the old one beside it
)

func up(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.SetOutput(out)
	dataDir := flags.String("data-dir", ".convoflow", "directory of everything the platform keeps")
	listen := flags.String("listen", "127.0.0.1:8000", "address of the API, HOST:PORT; port 0 takes a free one")
	flags.Usage = func() {
		_, _ = io.WriteString(out, "Starts the five services and an embedded default for everything the environment does not name.\n\nFlags:\n")
		flags.PrintDefaults()
		_, _ = io.WriteString(out, "\nSettings that replace embedded parts: DATABASE_URL, KAFKA_BROKERS, OPENAI_API_KEY, STORAGE_URL,\nPABBLY_WEBHOOK_URL with PABBLY_WEBHOOK_SECRET, OTEL_EXPORTER_OTLP_ENDPOINT. All settings: .env.example.\n")
	}
	if err := parse(flags, args); err != nil {
		return ignoreHelp(err)
	}
	if err := conf.ExportFiles("OTEL_"); err != nil {
		return err
	}
	// What is wrong with it, platform.Start lists with all that is wrong: the services log too.
	logging, _ := conf.Load(telemetry.Defaults(), os.Environ())
	log, err := openLog(*dataDir)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()

	took := clock.Stopwatch()
	say(out, "Starting Convoflow %s (log: %s)\n", run.Version(), log.Name())
	p, err := platform.Start(ctx, platform.Options{
		DataDir: *dataDir, Listen: *listen, Environ: os.Environ(), Log: log, Logging: logging,
		Progress: func(part string, took time.Duration) { say(out, "  %-14s %4d ms\n", part, took.Milliseconds()) },
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	if err := awaitReady(ctx, p, ended); err != nil {
		return err
	}
	if ctx.Err() == nil {
		say(out, "\nConvoflow is ready after %.1f s.\n\n%s\nStop with Ctrl-C. Next: make demo (in another terminal), or open the API reference.\n", took().Seconds(), p.Summary())
		<-ctx.Done()
	}
	say(out, "\nStopping: requests finish, jobs hand back their work …\n")
	if err := <-ended; err != nil {
		return fmt.Errorf("%w\nThe log is in %s", err, log.Name())
	}
	say(out, "Stopped. The data stays in %s; convoflow up finds it again.\n", *dataDir)
	return nil
}

// awaitReady waits for the five services, or for the end of the platform.
func awaitReady(ctx context.Context, p *platform.Platform, ended chan error) error {
	waiting, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- p.AwaitReady(waiting) }()
	select {
	case err := <-ended:
		return err
	case err := <-ready:
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
}

// openLog opens the platform's log for appending.
func openLog(dataDir string) (*os.File, error) {
	// PostgreSQL runs as another user below it; what is secret in it has its own mode.
	if err := os.MkdirAll(dataDir, 0o755); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	name := filepath.Join(dataDir, "convoflow.log")
	if info, err := os.Stat(name); err == nil && info.Size() > logLimit {
		if err := os.Rename(name, name+".old"); err != nil {
			return nil, fmt.Errorf("begin a new log: %w", err)
		}
	}
	log, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return log, nil
}

// parse reads flags and refuses anything else.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return usageError{err}
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("%s takes no argument %q, try: convoflow %s --help", flags.Name(), flags.Arg(0), flags.Name())}
	}
	return nil
}

func ignoreHelp(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

func say(out io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }
