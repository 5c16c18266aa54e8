package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/platform"
)

func up(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.SetOutput(out)
	dataDir := flags.String("data-dir", ".convoflow", "directory for all data of the platform")
	listen := flags.String("listen", "127.0.0.1:8000", "address of the API, HOST:PORT; port 0 means any free port")
	traces := flags.Bool("traces", false, "show the newest traces on a page of this machine")
	flags.Usage = func() {
		_, _ = io.WriteString(out, "Starts the five services, and an embedded default for each external system that the environment does not configure.\n\nFlags:\n")
		flags.PrintDefaults()
		_, _ = io.WriteString(out, "\nSettings that replace embedded parts: DATABASE_URL, KAFKA_BROKERS, OPENAI_API_KEY, STORAGE_URL,\nPABBLY_WEBHOOK_URL with PABBLY_WEBHOOK_SECRET, OTEL_EXPORTER_OTLP_ENDPOINT. All settings: .env.example.\n")
	}
	if err := parse(flags, args); err != nil {
		return ignoreHelp(err)
	}
	if _, _, err := net.SplitHostPort(*listen); err != nil {
		return usageError{fmt.Errorf("--listen must be HOST:PORT, such as 127.0.0.1:8000, not %q", *listen)}
	}
	took := clock.Stopwatch()
	shown, err := showTraces(*traces)
	if err != nil {
		return err
	}
	p, err := start(ctx, platform.Options{DataDir: *dataDir, Listen: *listen, Traces: shown}, out)
	if err != nil {
		return err
	}
	if ctx.Err() == nil {
		say(out, "\nConvoflow is ready after %.1f s.\n\n%s\nStop with Ctrl-C. Next: open the console, or make demo (in another terminal).\n", took().Seconds(), p.Summary())
	}
	select {
	case <-ctx.Done():
		say(out, "\nStopping: requests finish, jobs hand back their work …\n")
	case <-p.done: // a part failed, so all others were stopped
	}
	if err := p.stop(); err != nil {
		return fmt.Errorf("%w\nThe log is in %s", err, p.log)
	}
	say(out, "Stopped. The data stays in %s; convoflow up finds it again.\n", *dataDir)
	return nil
}

// showTraces returns the listener of the page of traces, and makes the services export to it. Without show it returns nil.
func showTraces(show bool) (net.Listener, error) {
	if !show {
		return nil, nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER"} {
		if os.Getenv(name) != "" {
			return nil, usageError{fmt.Errorf("traces are exported with %s; --traces shows them here instead: use one of them", name)}
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for the page of traces: %w", err)
	}
	for name, value := range platform.TracesEnvironment(l.Addr().String()) {
		if err := os.Setenv(name, value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	return l, nil
}

// parse parses flags and refuses other arguments.
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
