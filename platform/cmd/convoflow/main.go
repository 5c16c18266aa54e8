// Command convoflow is the whole platform in one binary: up starts it, demo runs the main use case on a running platform or on
// one that it starts, admin creates an admin from a shell, reseal is the last
// step of replacing SECRET_KEY, dlq shows and requeues dead letters, seed makes up data, and doctor, outbox, events, backup, restore
// and usage are for operators.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/run"
)

const (
	exitFailed = 1
	exitUsage  = 2 // wrong settings or arguments; nothing was started
)

const usage = `Convoflow turns recorded sales calls into transcripts, insights, follow-ups and webhooks.

Usage:
  convoflow up    [--data-dir DIR] [--listen HOST:PORT] [--traces]
                                                          start the whole platform in this process
  convoflow demo  [--url URL]                             do the main job, on a platform of its own when none runs
  convoflow admin create --email ADDRESS [--name NAME] [--data-dir DIR]
                                                          make or promote an admin; asks for the password
  convoflow doctor [--url URL] [--data-dir DIR]           check everything: what is wrong, and what to do
  convoflow dlq   list | show | requeue                   look at dead-lettered events and hand them out again
  convoflow outbox status                                 events that are not published yet
  convoflow events replay --service NAME --from TIME      let a stopped service read events again
  convoflow backup --to DIR | restore --from DIR          save and restore all data
  convoflow usage [--days N]                              what was used: AI providers, disk
  convoflow reseal [--data-dir DIR]                       after SECRET_KEY was replaced: seal with it what
                                                          SECRET_KEY_PREVIOUS opens
  convoflow seed  [--leads N] [--calls N] [--agents N]    make up data to try and to measure
  convoflow version
  convoflow help

Settings come from the environment; .env.example lists them all. "convoflow up --help" and "convoflow demo --help" say more.
`

func main() {
	makeFilesPrivate()
	run.ManageMemory(nil)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second Ctrl-C ends the process immediately.
	context.AfterFunc(ctx, stop)
	os.Exit(command(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func command(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		_, _ = io.WriteString(stderr, usage)
		return exitUsage
	}
	var err error
	switch args[0] {
	case "up":
		err = up(ctx, args[1:], stdout)
	case "demo":
		err = runDemo(ctx, args[1:], stdout)
	case "admin":
		err = admin(ctx, args[1:], stdin, stdout, stderr)
	case "doctor":
		err = runDoctor(ctx, args[1:], stdout, stderr)
	case "outbox":
		err = outboxStatus(ctx, args[1:], stdout, stderr)
	case "events":
		err = replay(ctx, args[1:], stdout, stderr)
	case "backup":
		err = backup(ctx, args[1:], stdout, stderr)
	case "restore":
		err = restore(ctx, args[1:], stdout, stderr)
	case "usage":
		err = usageReport(ctx, args[1:], stdout, stderr)
	case "dlq":
		err = deadLetters(ctx, args[1:], stdout)
	case "reseal":
		err = reseal(ctx, args[1:], stdout, stderr)
	case "seed":
		err = seed(ctx, args[1:], stdout, stderr)
	case "version", "--version":
		_, err = fmt.Fprintln(stdout, "convoflow", run.Version())
	case "help", "--help", "-h":
		_, err = io.WriteString(stdout, usage)
	default:
		err = usageError{fmt.Errorf("unknown command %q, try: convoflow help", args[0])}
	}
	var settings *conf.Error
	var wrongUsage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &settings):
		_, _ = fmt.Fprintf(stderr, "convoflow: %v\nNothing was started. .env.example explains each setting.\n", settings)
		return exitUsage
	case errors.As(err, &wrongUsage):
		_, _ = fmt.Fprintln(stderr, "convoflow:", err)
		return exitUsage
	default:
		_, _ = fmt.Fprintln(stderr, "convoflow:", err)
		return exitFailed
	}
}

// usageError is an error in the arguments.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }
