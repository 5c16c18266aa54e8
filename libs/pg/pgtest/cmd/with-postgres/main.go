// Command with-postgres runs a command with a temporary PostgreSQL server: with-postgres -- go test ./...
//
// TEST_DATABASE_URL contains the superuser's connection string. If it is already set, no server is started. with-postgres
// forwards SIGINT and SIGTERM to the command, and exits with the command's exit code (128 + n if signal n ended it).
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/convoflow/convoflow/libs/pg/pgtest/temporary"
)

// Exit codes as in a shell: wrong usage, a command that cannot be run, and the base for signals.
const (
	exitUsage    = 2
	exitNotFound = 127
	exitSignal   = 128
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: with-postgres -- command [argument…]")
		os.Exit(exitUsage)
	}
	os.Exit(temporary.With(func(signals <-chan os.Signal) int { return run(args, signals) }))
}

func run(args []string, signals <-chan os.Signal) int {
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // forwarded signals end it, not a context
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "with-postgres:", err)
		return exitNotFound
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			_ = cmd.Process.Signal(sig)
		case err := <-ended:
			return exitCode(cmd.ProcessState, err)
		}
	}
}

func exitCode(state *os.ProcessState, err error) int {
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		fmt.Fprintln(os.Stderr, "with-postgres:", err)
		return 1
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return state.ExitCode()
}
