// Package program builds the programs of this repository and runs them as child processes of a test or a test command: start,
// kill, pause, stop, and read what they print. It knows no program and no settings. A child dies with its parent on Linux.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/convoflow/convoflow/test/fake/script"
)

// Build builds the package pkg of a module, whose folder is relative to root, into the file path. In a module other than the
// workspace ("") it builds as for its image: without the workspace.
func Build(ctx context.Context, root, path, module, pkg string, flags ...string) error {
	args := append([]string{"build", "-ldflags", "-s -w", "-o", path}, flags...) // without what only debuggers read, which takes a third of the linking
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Dir = filepath.Join(root, module)
	cmd.Env = os.Environ()
	if module != "" {
		cmd.Env = append(cmd.Env, "GOWORK=off")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("build %s: %w", pkg, err), errors.New(string(out)))
	}
	return nil
}

// Program is what to run.
type Program struct {
	Name    string
	Argv    []string
	Environ []string // exactly the environment, without that of this process
	Dir     string   // working directory; that of this process when empty
}

// Process is a program that has been started. Its methods are safe for concurrent use.
type Process struct {
	Name   string
	Output Output
	cmd    *exec.Cmd
	done   chan struct{}
}

// Start starts a program. The caller must end it.
func Start(p Program) (*Process, error) {
	process := &Process{Name: p.Name, cmd: exec.Command(p.Argv[0], p.Argv[1:]...), done: make(chan struct{})}
	cmd := process.cmd
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.Environ, p.Dir, &process.Output, &process.Output
	cmd.SysProcAttr = KillWithParent()
	cmd.WaitDelay = time.Second
	started := make(chan error)
	go func() {
		// The death signal of a child is bound to the thread that created it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(process.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // its state says how it ended
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	return process, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal. SIGSTOP pauses the process and SIGCONT continues it.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Kill is kill -9. It returns when the process has ended.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait waits up to d for the end and returns the exit code, -1 when a signal ended it. A Go program that does not end prints its
// goroutines, is killed and is an error with its output.
func (p *Process) Wait(d time.Duration) (int, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-timer.C:
	}
	p.Signal(syscall.SIGQUIT) // Go prints where it hangs, and so does Java, which goes on
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.Kill()
	}
	return -1, fmt.Errorf("%s did not end within %s:\n%s", p.Name, d, p.Output.String())
}

// Await returns once the output contains text. It fails when the process ends before that, or ctx.
func (p *Process) Await(ctx context.Context, text string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err := p.Output.lines.Wait(ctx, func([]string) bool { return strings.Contains(p.Output.String(), text) })
	if err != nil {
		return fmt.Errorf("%s did not say %q: %w\n%s", p.Name, text, err, Tail(p.Output.String()))
	}
	return nil
}

// Output is the output of a process so far.
type Output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines script.Log[string] // notifies waiters
}

// Write implements io.Writer for the process.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	o.text.Write(b)
	o.mu.Unlock()
	o.lines.Add(string(b))
	return len(b), nil
}

// String returns all output.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Tail returns the end of a log.
func Tail(log string) string {
	const lines = 60
	all := strings.Split(strings.TrimRight(log, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
