package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/test/fake/script"
)

const (
	// stopTimeout is how long a process may take to stop. On an idle machine it takes 10 s at most.
	stopTimeout = 2 * time.Minute
	// commandTimeout is how long a command may run. The longest is a demo with the offline recognizer.
	commandTimeout = 20 * time.Minute
)

// process is a running program. On Linux the kernel kills it when the test binary exits. The caller of launch must end it in a
// cleanup.
type process struct {
	name   string
	cmd    *exec.Cmd
	output output
	done   chan struct{}
}

// launch starts a program with exactly this environment.
func launch(t testing.TB, name string, argv, environ []string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = environ, &p.output, &p.output
	p.cmd.SysProcAttr = killWithParent()
	p.cmd.WaitDelay = time.Second
	started := make(chan error)
	go func() {
		// The kernel sends the parent death signal when the thread that created the child exits.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // ProcessState has the result
		}
	}()
	require.NoError(t, <-started, "start %s", name)
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill sends SIGKILL and waits until the process has exited.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop sends a signal, waits until the process has exited and returns its exit code, or -1 if a signal killed it.
func (p *process) stop(t testing.TB, signal syscall.Signal) int {
	t.Helper()
	_ = p.cmd.Process.Signal(signal)
	return p.wait(t)
}

// wait waits until the process has exited and returns its exit code.
func (p *process) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // Go prints the stacks of all goroutines
		<-p.done
		t.Errorf("%s did not exit within %s:\n%s", p.name, stopTimeout, p.output.String())
		return -1
	}
}

// hasEnded reports whether the process has exited.
func (p *process) hasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// await waits until the output contains text. It fails the test if the process exits first.
func (p *process) await(t testing.TB, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), script.Timeout)
	defer cancel()
	go func() {
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err := p.output.lines.Wait(ctx, func([]string) bool { return strings.Contains(p.output.String(), text) })
	if err != nil {
		t.Fatalf("%s did not write %q: %v\n%s", p.name, text, err, tail(p.output.String()))
	}
}

// output collects what a process writes.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines script.Log[string] // wakes the callers of await
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	o.text.Write(b)
	o.mu.Unlock()
	o.lines.Add(string(b))
	return len(b), nil
}

// String returns everything written so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// tail returns the last lines of a log, for the message of a failed test.
func tail(log string) string {
	const lines = 60
	all := strings.Split(strings.TrimRight(log, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// command runs a program and returns its exit code, standard output and standard error.
func command(t testing.TB, environ []string, argv ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = environ, io.Writer(&out), io.Writer(&errs)
	cmd.SysProcAttr = killWithParent()
	cmd.WaitDelay = time.Second
	runtime.LockOSThread() // as in launch
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", argv[0], err)
	}
	require.NoError(t, ctx.Err(), "%s\n%s%s", argv, out.String(), errs.String())
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// poll waits until done returns true. It fails the test after d.
func poll(t testing.TB, d time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", d, what)
		}
	}
}
