package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/platform"
	"github.com/convoflow/convoflow/platform/internal/demo"
)

const demoUsage = `Usage: convoflow demo [--url URL]

Does the main job as a phone app would: registers an agent, receives a signed lead as from Pabbly Connect, uploads a recorded call
with it, waits for the transcript and insights and for what they change of the lead and of the dashboard, schedules the follow-up
and checks the webhooks. It fails when any of that does not happen.

  A Convoflow platform answers at URL    The demo uses it. The agent, the lead and the call stay there.
  Nothing answers, URL is this machine   The demo starts a platform of its own on a free port, with its data in a temporary
                                         directory, stops it at the end and removes the data. After a failure the logs stay.
  Anything else                          An error.

The settings of "convoflow up" also apply to the platform that the demo starts. With DATABASE_URL, KAFKA_BROKERS or STORAGE_URL
it starts none, because what it writes there would stay. With PABBLY_WEBHOOK_URL the webhooks go to that address, and the demo
checks that they were delivered.

Flags:
`

var errInterrupted = errors.New("interrupted")

func runDemo(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(out)
	address := flags.String("url", "http://127.0.0.1:8000", "address of the platform's API")
	flags.Usage = func() {
		_, _ = io.WriteString(out, demoUsage)
		flags.PrintDefaults()
	}
	if err := parse(flags, args); err != nil {
		return ignoreHelp(err)
	}
	base, err := url.Parse(*address)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return usageError{fmt.Errorf("--url must be an address such as http://127.0.0.1:8000, not %q", *address)}
	}
	_, err = demo.Probe(ctx, *address)
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case errors.Is(err, demo.ErrUnreachable) && isLoopback(base.Hostname()):
		return runOwnDemo(ctx, *address, out)
	case errors.Is(err, demo.ErrUnreachable):
		return fmt.Errorf("%s: %w\nCheck the address, and that a platform runs there. Without an address, make demo starts a platform of its own on this machine", *address, err)
	case err != nil:
		return fmt.Errorf("no Convoflow platform answers at %s, but something else: %w\n"+
			"Give the address of a platform, or a port of this machine that nothing listens on; then the demo starts a platform of its own: make demo URL=http://127.0.0.1:PORT", *address, err)
	}
	if err := demo.Run(ctx, *address, out); err != nil {
		return orInterrupted(ctx, err)
	}
	say(out, "Look around: %s/docs\n", strings.TrimRight(*address, "/"))
	return nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// runOwnDemo runs the demo on a temporary platform, because nothing answers at address.
func runOwnDemo(ctx context.Context, address string, out io.Writer) error {
	if stores := platform.ExternalStores(os.Environ()); len(stores) > 0 {
		names := strings.Join(stores, ", ")
		return usageError{fmt.Errorf("the demo does not start a platform of its own with %s, because what it writes there would stay\n"+
			"Start the platform (make up) and run the demo on it, or unset %[1]s", names)}
	}
	say(out, "Nothing answers at %s, so the demo starts a platform of its own.\n", address)
	dataDir, err := temporaryDir()
	if err != nil {
		return err
	}
	if err := discard(dataDir, runDemoIn(ctx, dataDir, out)); err != nil {
		return err
	}
	say(out, "Stopped, and its data is removed.\n\nNext: make up keeps a platform running, with the API reference at /docs and the webhooks at /inbox. make demo then uses it.\n")
	return nil
}

// runDemoIn starts a platform in dataDir, runs the demo on it, and stops it in any case.
func runDemoIn(ctx context.Context, dataDir string, out io.Writer) error {
	took := clock.Stopwatch()
	p, err := start(ctx, platform.Options{DataDir: dataDir, Listen: "127.0.0.1:0"}, out)
	if err != nil {
		return orInterrupted(ctx, err)
	}
	if ctx.Err() == nil {
		say(out, "Ready after %.1f s.\n", took().Seconds())
	}
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // the demo cannot succeed after a part of the platform has failed
		select {
		case <-p.done:
			cancel()
		case <-working.Done():
		}
	}()
	err = demo.Run(working, p.URL(), out)
	say(out, "\nStopping the platform of the demo …\n")
	if failed := p.stop(); failed != nil {
		return failed // if the demo failed too, this is why
	}
	return orInterrupted(ctx, err)
}

// orInterrupted replaces an error that was caused by Ctrl-C.
func orInterrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// temporaryDir creates a data directory that other users may enter: if root runs the demo, PostgreSQL runs as another user in it.
// Secret files in it have their own mode.
func temporaryDir() (string, error) {
	dir, err := os.MkdirTemp("", "convoflow-demo-")
	if err != nil {
		return "", fmt.Errorf("create a temporary data directory: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // a directory needs execute permission
		return "", fmt.Errorf("give PostgreSQL access to the temporary data directory: %w", err)
	}
	return dir, nil
}

// discard removes the data directory of a demo that ended with err, and returns err. After a failure it keeps the logs, and the
// error says where they are.
func discard(dir string, err error) error {
	log, postgres := logFile(dir), filepath.Join(dir, "postgres")
	var settings *conf.Error
	if err == nil || errors.Is(err, errInterrupted) || errors.As(err, &settings) {
		return errors.Join(err, os.RemoveAll(dir))
	}
	err = fmt.Errorf("%w\nThe logs stay: %s, and those of PostgreSQL in %s", err, log, postgres)
	return errors.Join(err, removeAllBut(dir, log, postgres), removeAllBut(postgres, filepath.Join(postgres, "postgres.log")))
}

// removeAllBut removes everything in dir except these paths.
func removeAllBut(dir string, keep ...string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if path := filepath.Join(dir, entry.Name()); !slices.Contains(keep, path) {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}
