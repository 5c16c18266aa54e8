// Command convoflow is the whole platform in one binary, with what its operators need. convoflow help lists its commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/run"
)

const (
	exitFailed = 1
	exitUsage  = 2 // wrong settings or arguments; nothing was started
)

// terminal is where a command reads and writes.
type terminal struct {
	in       *os.File
	out, err io.Writer
}

// command is a command of the program. The help lists all of them.
type command struct {
	name, arguments, help string
	run                   func(ctx context.Context, args []string, t terminal) error
}

func commands() []command {
	return []command{
		{"up", "[--data-dir DIR] [--listen HOST:PORT] [--traces]", "start the whole platform in this process",
			func(ctx context.Context, args []string, t terminal) error { return up(ctx, args, t.out) }},
		{"demo", "[--url URL]", "do the main job, on a platform of its own when none runs",
			func(ctx context.Context, args []string, t terminal) error { return runDemo(ctx, args, t.out) }},
		{"admin", "create --email ADDRESS [--name NAME] [--data-dir DIR]", "make or promote an admin; asks for the password",
			func(ctx context.Context, args []string, t terminal) error {
				return admin(ctx, args, t.in, t.out, t.err)
			}},
		{"doctor", "[--url URL] [--data-dir DIR]", "check everything: what is wrong, and what to do",
			func(ctx context.Context, args []string, t terminal) error { return runDoctor(ctx, args, t.out, t.err) }},
		{"dlq", "list | show | requeue", "look at dead-lettered events and hand them out again",
			func(ctx context.Context, args []string, t terminal) error { return deadLetters(ctx, args, t.out) }},
		{"outbox", "status [--data-dir DIR]", "events that are not published yet",
			func(ctx context.Context, args []string, t terminal) error {
				return outboxStatus(ctx, args, t.out, t.err)
			}},
		{"events", "replay --service NAME|all --from TIME [--dry-run] [--data-dir DIR]", "let a stopped service read events again",
			func(ctx context.Context, args []string, t terminal) error { return replay(ctx, args, t.out, t.err) }},
		{"backup", "--to DIR [--recordings] [--data-dir DIR]", "save all data, while the platform runs",
			func(ctx context.Context, args []string, t terminal) error { return backup(ctx, args, t.out, t.err) }},
		{"restore", "--from DIR [--overwrite] [--data-dir DIR]", "replace all data by a backup, while the platform is stopped",
			func(ctx context.Context, args []string, t terminal) error { return restore(ctx, args, t.out, t.err) }},
		{"usage", "[--days N] [--data-dir DIR]", "what was used: AI providers, disk",
			func(ctx context.Context, args []string, t terminal) error {
				return usageReport(ctx, args, t.out, t.err)
			}},
		{"reseal", "[--data-dir DIR]", "after SECRET_KEY was replaced: seal with it what SECRET_KEY_PREVIOUS opens",
			func(ctx context.Context, args []string, t terminal) error { return reseal(ctx, args, t.out, t.err) }},
		{"seed", "[--leads N] [--calls N] [--agents N] [--seed N] [--data-dir DIR]", "make up data to try and to measure",
			func(ctx context.Context, args []string, t terminal) error { return seed(ctx, args, t.out, t.err) }},
		{"version", "", "print the version", func(_ context.Context, _ []string, t terminal) error {
			_, err := fmt.Fprintln(t.out, "convoflow", run.Version())
			return err
		}},
		{"help", "", "print this", func(_ context.Context, _ []string, t terminal) error {
			_, err := io.WriteString(t.out, usage())
			return err
		}},
	}
}

func usage() string {
	text := "Convoflow turns recorded sales calls into transcripts, insights, follow-ups and webhooks.\n\nUsage:\n"
	for _, c := range commands() {
		text += strings.TrimRight(fmt.Sprintf("  convoflow %s %s", c.name, c.arguments), " ") + "\n      " + c.help + "\n"
	}
	return text + "\nSettings come from the environment; .env.example lists them all. \"convoflow COMMAND --help\" says more.\n"
}

func main() {
	makeFilesPrivate()
	run.ManageMemory(nil)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second Ctrl-C ends the process immediately.
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, os.Args[1:], terminal{os.Stdin, os.Stdout, os.Stderr}))
}

func execute(ctx context.Context, args []string, t terminal) int {
	if len(args) == 0 {
		_, _ = io.WriteString(t.err, usage())
		return exitUsage
	}
	name := args[0]
	switch name {
	case "--version":
		name = "version"
	case "--help", "-h":
		name = "help"
	}
	var err error = usageError{fmt.Errorf("unknown command %q, try: convoflow help", name)}
	for _, c := range commands() {
		if c.name == name {
			err = c.run(ctx, args[1:], t)
		}
	}
	var settings *conf.Error
	var wrongUsage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &settings):
		_, _ = fmt.Fprintf(t.err, "convoflow: %v\nNothing was started. .env.example explains each setting.\n", settings)
		return exitUsage
	case errors.As(err, &wrongUsage):
		_, _ = fmt.Fprintln(t.err, "convoflow:", err)
		return exitUsage
	default:
		_, _ = fmt.Fprintln(t.err, "convoflow:", err)
		return exitFailed
	}
}

// usageError is an error in the arguments.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }
