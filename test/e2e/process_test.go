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
	// commandTimeout is how long a program may run that ends by itself. The longest is a demo, which transcribes without a network.
	commandTimeout = 30 * time.Minute
)

// process is one running program. On Linux it dies with the test binary, however that ends; the launching test must stop it in
// a cleanup.
type process struct {
	name   string
	cmd    *exec.Cmd
	output output
	done   chan struct{}
}

// launch starts a program with exactly these settings as its environment.
func launch(t testing.TB, name string, argv, environ []string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = environ, &p.output, &p.output
	p.cmd.SysProcAttr = killWithParent()
	p.cmd.WaitDelay = time.Second
	started := make(chan error)
	go func() {
		// The death signal of a child is bound to the thread that created it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // its state says how it ended
		}
	}()
	require.NoError(t, <-started, "start %s", name)
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop sends a signal, waits for the end and returns the exit code, -1 when a signal ended it.
func (p *process) stop(t testing.TB, signal syscall.Signal) int {
	t.Helper()
	_ = p.cmd.Process.Signal(signal)
	return p.wait(t)
}

// wait waits for the end and returns the exit code.
func (p *process) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // Go prints where it hangs
		<-p.done
		t.Errorf("%s did not end within %s:\n%s", p.name, stopTimeout, p.output.String())
		return -1
	}
}

// hasEnded reports whether the process has ended.
func (p *process) hasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// await returns once the output contains text, and fails the test when the process ends before that.
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
		t.Fatalf("%s did not say %q: %v\n%s", p.name, text, err, tail(p.output.String()))
	}
}

// output is the output of a process so far.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines script.Log[string] // notifies waiters
}

// Write implements io.Writer for the process.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	o.text.Write(b)
	o.mu.Unlock()
	o.lines.Add(string(b))
	return len(b), nil
}

// String returns all output.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// tail returns the end of a log that a failed test shows.
func tail(log string) string {
	const lines = 60
	all := strings.Split(strings.TrimRight(log, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// command runs a program to its end and returns its exit code, standard output and standard error.
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

// poll waits until done returns true, and fails the test after d.
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
