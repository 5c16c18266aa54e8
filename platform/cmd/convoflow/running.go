package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/platform"
)

const (
	readyTimeout = 2 * time.Minute // a busy machine takes a while
	logLimit     = 50 << 20        // bytes; a start renames a larger log and begins a new one
)

// running is a platform in this process.
type running struct {
	*platform.Platform
	log    string // path
	cancel context.CancelFunc
	done   chan struct{} // closed when it has stopped
	err    error         // why it stopped; set before done is closed
}

// start starts a platform with those options that logs to its data directory, and prints each part when it has started. It returns when the five
// services are ready, or earlier if ctx ends. After an error nothing is running. The platform stops when ctx ends; the caller
// must call stop and check its error.
func start(ctx context.Context, o platform.Options, out io.Writer) (*running, error) {
	if err := conf.ExportFiles("OTEL_"); err != nil {
		return nil, err
	}
	// Its problems are ignored here: platform.Start lists them with all others, because the services have the same settings.
	logging, _ := conf.Load(telemetry.Defaults(), os.Environ())
	log, err := openLog(o.DataDir)
	if err != nil {
		return nil, err
	}
	say(out, "Starting Convoflow %s (log: %s)\n", run.Version(), log.Name())
	o.Environ, o.Log, o.Logging = os.Environ(), log, logging
	o.Progress = func(part string, took time.Duration) { say(out, "  %-14s %4d ms\n", part, took.Milliseconds()) }
	p, err := platform.Start(ctx, o)
	if err != nil {
		_ = log.Close()
		return nil, err
	}
	r := &running{Platform: p, log: log.Name(), done: make(chan struct{})}
	ctx, r.cancel = context.WithCancel(ctx)
	go func() {
		defer close(r.done)
		r.err = p.Run(ctx)
		_ = log.Close()
	}()
	if err := r.awaitReady(ctx); err != nil {
		if stopped := r.stop(); stopped != nil {
			err = stopped // the reason why it is not ready
		}
		return nil, err
	}
	return r, nil
}

// awaitReady waits until the five services are ready, the platform has stopped or ctx ends.
func (r *running) awaitReady(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- r.AwaitReady(waiting) }()
	select {
	case <-r.done:
		return r.err
	case err := <-ready:
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
}

// stop stops the platform and waits until it has stopped. It returns the error of a part that failed, also if it failed before.
func (r *running) stop() error {
	r.cancel()
	<-r.done
	return r.err
}

// openLog opens the platform's log for appending.
func openLog(dataDir string) (*os.File, error) {
	// PostgreSQL may run as another user in a subdirectory. Secret files have their own mode.
	if err := os.MkdirAll(dataDir, 0o755); err != nil {
		return nil, fmt.Errorf("create the data directory: %w", err)
	}
	name := logFile(dataDir)
	if info, err := os.Stat(name); err == nil && info.Size() > logLimit {
		if err := os.Rename(name, name+".old"); err != nil {
			return nil, fmt.Errorf("rename the old log: %w", err)
		}
	}
	log, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return log, nil
}

func logFile(dataDir string) string { return filepath.Join(dataDir, "convoflow.log") }
