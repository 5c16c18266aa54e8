package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Exit codes of every binary.
const (
	exitFailed = 1 // it ran and failed
	exitUsage  = 2 // wrong settings or arguments; nothing was started
)

// Config is the part of a service's configuration that Main uses.
type Config interface {
	conf.Checker
	TelemetryConfig() telemetry.Config
}

// Commander is a Config of a service with additional commands.
type Commander interface {
	Commands() []Command
}

// Command is a command that a binary runs instead of serving, with the settings of the service.
type Command struct {
	Name string // one or more words, such as "keys rotate"
	Help string // its arguments and what it does, in one line
	Run  func(ctx context.Context, tel telemetry.Set, args []string) error
}

// command finds the command that args begin with, and the arguments after its name.
func command(cfg any, args []string) (Command, []string, bool) {
	commander, ok := cfg.(Commander)
	if !ok {
		return Command{}, nil, false
	}
	for _, c := range commander.Commands() {
		words := strings.Fields(c.Name)
		if len(args) >= len(words) && slices.Equal(args[:len(words)], words) {
			return c, args[len(words):], true
		}
	}
	return Command{}, nil, false
}

// commands lists what a binary has, and nothing that it has not, for the help text.
func commands(cfg any) string {
	list := []Command{
		{Name: "config", Help: "print the settings in effect, without secrets; exit 2 and all problems if they are wrong"},
		{Name: "health", Help: "check whether the running process is alive; exit 0 if it is"},
		{Name: "version", Help: "print the version"},
		{Name: "help", Help: "print this"},
	}
	if commander, ok := cfg.(Commander); ok {
		list = append(list, commander.Commands()...)
	}
	slices.SortStableFunc(list, func(a, b Command) int { return strings.Compare(a.Name, b.Name) })
	var text strings.Builder
	for _, c := range list {
		_, _ = fmt.Fprintf(&text, "  %-14s %s\n", c.Name, c.Help)
	}
	return text.String()
}

const usage = `%s %s of Convoflow

Without an argument it runs until SIGINT or SIGTERM. Commands:
%s
Settings come from the environment:

%s
Each can also be read from the file that NAME_FILE names.
`

// Main is the main function of a service: commands, settings, telemetry, signals, exit codes. start creates the service and runs
// it until ctx ends. Main does not return.
func Main[T Config](service string, defaults T, start func(context.Context, T, telemetry.Set) error) {
	os.Exit(realMain(service, defaults, start, os.Args[1:], os.Stdout, os.Stderr))
}

func realMain[T Config](service string, defaults T, start func(context.Context, T, telemetry.Set) error, args []string, stdout, stderr io.Writer) int {
	lines := stdout // of the log; a command prints its result there
	if len(args) > 0 {
		lines = stderr
	}
	if len(args) > 0 {
		switch args[0] {
		case "version", "--version":
			_, _ = fmt.Fprintln(stdout, service, Version())
			return 0
		case "help", "--help", "-h":
			_, _ = fmt.Fprintf(stdout, usage, service, Version(), commands(defaults), conf.Usage(defaults))
			return 0
		case "health":
			if err := checkHealth(context.Background()); err != nil {
				_, _ = fmt.Fprintf(stderr, "%s: %v\n", service, err)
				return exitFailed
			}
			return 0
		case "config":
			cfg, err := conf.Load(defaults, os.Environ())
			if err != nil {
				_, _ = fmt.Fprintf(stderr, "%s: %v\n", service, err)
				return exitUsage
			}
			_, _ = io.WriteString(stdout, conf.Usage(cfg))
			return 0
		default:
			if _, _, ok := command(defaults, args); ok {
				start = func(ctx context.Context, cfg T, tel telemetry.Set) error {
					c, rest, _ := command(cfg, args)
					return c.Run(ctx, tel, rest)
				}
				break
			}
			_, _ = fmt.Fprintf(stderr, "%s: unknown argument %q, try --help\n", service, args[0])
			return exitUsage
		}
	}
	cfg, err := conf.Load(defaults, os.Environ())
	if err = errors.Join(err, conf.ExportFiles("OTEL_")); err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", service, err)
		return exitUsage
	}
	memory, leave := ManageMemory(cfg)
	defer leave()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := telemetry.NewBatch(lines)
	defer log.Flush()
	logging := cfg.TelemetryConfig()
	if os.Getenv("LOG_FORMAT") == "" && isTerminal(lines) {
		logging.LogFormat = "text"
	}
	tel, flush, err := telemetry.New(ctx, service, Version(), logging, log)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", service, err)
		return exitUsage
	}
	tel.Log.InfoContext(ctx, "starting", "version", tel.Version, "memory_limit_bytes", memory)
	err = start(ctx, cfg, tel)
	flushCtx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if flushErr := flush(flushCtx); flushErr != nil {
		tel.Log.WarnContext(ctx, "flush spans at exit, some are lost", "error", flushErr)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		tel.Log.ErrorContext(ctx, "stopped", "error", err)
		return exitFailed
	}
	tel.Log.InfoContext(ctx, "stopped")
	return 0
}

// isTerminal reports whether w is a terminal, or another device.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// checkHealth requests /health from the process that runs with this environment. Container images without a shell need it.
func checkHealth(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/health", nil)
	if err != nil {
		return fmt.Errorf("request /health: %w", err)
	}
	// An address without a host is this machine. The transport does not use a proxy of the environment.
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, cmp.Or(os.Getenv("ADMIN_ADDR"), ":9090"))
	}}}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("request /health: %w", err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("not healthy: %s", res.Status)
	}
	return nil
}

// version is set at link time: -ldflags "-X github.com/convoflow/convoflow/libs/run.version=1.2.3".
var version string

// Version returns the version of the running binary.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "0.0.0-" + s.Value[:12]
			}
		}
	}
	return "0.0.0-dev"
}
