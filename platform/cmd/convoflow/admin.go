package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/platform"
)

const adminUsage = `Usage: convoflow admin create --email ADDRESS [--name NAME] [--data-dir DIR]

Makes the account with that e-mail address an active admin, or creates the account. The password of a new account is read from
the terminal, or from the first line of stdin. The platform may be running; use the settings that it was started with.

Flags:
`

func admin(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("admin create", flag.ContinueOnError)
	flags.SetOutput(stdout)
	email := flags.String("email", "", "e-mail address of the admin")
	name := flags.String("name", "Admin", "full name of a new account")
	dataDir := flags.String("data-dir", ".convoflow", "data directory of the platform")
	flags.Usage = func() {
		_, _ = io.WriteString(stdout, adminUsage)
		flags.PrintDefaults()
	}
	if len(args) > 0 && args[0] == "create" {
		args = args[1:]
	} else if len(args) == 0 || !strings.HasPrefix(args[0], "-") {
		return usageError{errors.New("admin has one command, try: convoflow admin create --help")}
	}
	if err := flags.Parse(args); err != nil {
		return ignoreHelp(usageError{err})
	}
	if *email == "" || flags.NArg() > 0 { // extra arguments may contain a password, so they are not shown
		return usageError{errors.New("say who, and nothing else: convoflow admin create --email ADDRESS [--name NAME] [--data-dir DIR]; the password is asked for")}
	}
	if err := conf.ExportFiles("OTEL_"); err != nil {
		return err
	}
	if state, err := term.GetState(int(stdin.Fd())); err == nil {
		defer func() { _ = term.Restore(int(stdin.Fd()), state) }() // Ctrl-C during the password prompt leaves the echo off
	}
	err := neverStarted(platform.CreateAdmin(ctx, beside(*dataDir, stderr), []string{"--email", *email, "--name", *name}, stdin, stdout))
	if fault.Is(err, fault.Invalid) {
		return wrongFields(fault.Of(err).Fields)
	}
	return err
}

const resealUsage = `Usage: convoflow reseal [--data-dir DIR]

Seals with SECRET_KEY what was sealed with SECRET_KEY_PREVIOUS, and says how much that was. Afterwards SECRET_KEY_PREVIOUS can be
removed. The platform may be running; use the settings that it was started with.

Flags:
`

func reseal(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("reseal", flag.ContinueOnError)
	flags.SetOutput(stdout)
	dataDir := flags.String("data-dir", ".convoflow", "data directory of the platform")
	flags.Usage = func() {
		_, _ = io.WriteString(stdout, resealUsage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return ignoreHelp(usageError{err})
	}
	if flags.NArg() > 0 {
		return usageError{errors.New("reseal takes no arguments, try: convoflow reseal --help")}
	}
	if err := conf.ExportFiles("OTEL_"); err != nil {
		return err
	}
	return neverStarted(platform.Reseal(ctx, beside(*dataDir, stderr), stdout))
}

// beside returns the options of a command that works beside a platform.
func beside(dataDir string, stderr io.Writer) platform.Options {
	return platform.Options{
		DataDir: dataDir, Environ: os.Environ(), Log: stderr, Logging: telemetry.Config{LogLevel: slog.LevelWarn, LogFormat: "text"},
	}
}

func neverStarted(err error) error {
	if errors.Is(err, platform.ErrNeverStarted) {
		return usageError{fmt.Errorf("%w; name it with --data-dir, or start it with: convoflow up", err)}
	}
	return err
}

// wrongFields returns the error for invalid fields of the new account. All of them except the password are arguments.
func wrongFields(fields []fault.Field) error {
	arguments := map[any]string{"email": "--email", "full_name": "--name"}
	var problems []string
	usage := true
	for _, f := range fields {
		field := f.Loc[len(f.Loc)-1]
		argument, ok := arguments[field]
		if !ok {
			argument, usage = fmt.Sprint("the ", field), false
		}
		problems = append(problems, argument+": "+f.Msg)
	}
	err := errors.New(strings.Join(problems, "\n"))
	if usage {
		return usageError{err}
	}
	return err
}
