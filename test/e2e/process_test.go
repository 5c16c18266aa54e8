package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/test/fake/script"
	"github.com/convoflow/convoflow/test/internal/program"
)

const (
	// stopTimeout is how long a process may take to stop. On an idle machine it takes 10 s at most.
	stopTimeout = 2 * time.Minute
	// commandTimeout is how long a program may run that ends by itself. The longest is a demo, which transcribes without a network.
	commandTimeout = 30 * time.Minute
)

// process is one running program. On Linux it dies with the test binary, however that ends; the launching test must stop it in
// a cleanup.
type process struct{ *program.Process }

// launch starts a program with exactly these settings as its environment.
func launch(t testing.TB, name string, argv, environ []string) *process {
	t.Helper()
	p, err := program.Start(program.Program{Name: name, Argv: argv, Environ: environ})
	require.NoError(t, err)
	return &process{p}
}

// stop sends a signal, waits for the end and returns the exit code, -1 when a signal ended it.
func (p *process) stop(t testing.TB, signal syscall.Signal) int {
	t.Helper()
	p.Signal(signal)
	return p.wait(t)
}

// wait waits for the end and returns the exit code.
func (p *process) wait(t testing.TB) int {
	t.Helper()
	code, err := p.Wait(stopTimeout)
	assert.NoError(t, err)
	return code
}

// await returns once the output contains text, and fails the test when the process ends before that.
func (p *process) await(t testing.TB, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), script.Timeout)
	defer cancel()
	require.NoError(t, p.Await(ctx, text))
}

// command runs a program to its end and returns its exit code, standard output and standard error.
func command(t testing.TB, environ []string, argv ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = environ, io.Writer(&out), io.Writer(&errs)
	cmd.SysProcAttr = program.KillWithParent()
	cmd.WaitDelay = time.Second
	runtime.LockOSThread() // as in program.Start
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", argv[0], err)
	}
	require.NoError(t, ctx.Err(), "%s\n%s%s", argv, out.String(), errs.String())
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// poll waits until done returns true, and fails the test after d.
func poll(t testing.TB, d time.Duration, what string, done func() bool) {
	t.Helper()
	pollEvery(t, 100*time.Millisecond, d, what, done)
}

func pollEvery(t testing.TB, every, d time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", d, what)
		}
	}
}
