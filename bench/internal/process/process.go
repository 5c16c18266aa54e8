// Package process runs the programs of a benchmark and measures their CPU time. Each program runs on the given cores, without the
// developer's environment variables, and does not outlive this process.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	stopTimeout = 20 * time.Second // the services finish requests for up to 8 s
	// readInterval is how often output is read. Reading each line as it arrives would wake this process for each request, on the core
	// that generates the load.
	readInterval = 2 * time.Millisecond
	// pipeSize is enough for what a program writes while this process waits for that core, bytes.
	pipeSize = 1 << 20
	tailSize = 4 << 10 // bytes of output in an error
)

// Program is a program to run.
type Program struct {
	Name string
	Argv []string
	Env  []string // in addition to PATH, HOME and TMPDIR
	Core Core
}

// Core is the number of a core, or Any.
type Core int

// Any lets the kernel choose the cores.
const Any Core = -1

// Process is a running program.
type Process struct {
	name   string
	cmd    *exec.Cmd
	ended  chan struct{}
	output output
}

// command returns the command, ready to start.
func (p Program) command(ctx context.Context) *exec.Cmd {
	argv := p.Argv
	if p.Core != Any {
		argv = append([]string{"taskset", "-c", strconv.Itoa(int(p.Core))}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = attributes()
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value := os.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, p.Env...)
	return cmd
}

// Run runs a program until it exits and returns its output. The program is killed when ctx ends.
func Run(ctx context.Context, p Program) (string, error) {
	runtime.LockOSThread() // as in Start
	defer runtime.UnlockOSThread()
	out, err := p.command(ctx).CombinedOutput()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("run %s: %w\n%s", p.Name, err, out)
	}
	return string(out), nil
}

// Start starts a program, which runs until Stop. The end of ctx does not stop it.
func Start(ctx context.Context, p Program) (*Process, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for %s: %w", p.Name, err)
	}
	defer func() { _ = write.Close() }()
	widen(read)
	cmd := p.command(context.WithoutCancel(ctx)) // Stop stops it
	cmd.Stdout, cmd.Stderr = write, write
	started := &Process{name: p.Name, cmd: cmd, ended: make(chan struct{})}
	failed := make(chan error)
	go func() {
		// The kernel sends the parent death signal when the thread that created the child exits, so the thread stays until the child has
		// exited.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(started.ended)
		err := cmd.Start()
		failed <- err
		if err != nil {
			_ = read.Close()
			return
		}
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			started.output.drain(read)
		}()
		_ = cmd.Wait() // ProcessState has the result

		// Children that are still running would keep the pipe open.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-drained
	}()
	if err := <-failed; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	return started, nil
}

// Stop sends SIGTERM and waits until the program has exited. Further calls do nothing.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not stop within %s and was killed", p.name, stopTimeout)
	}
}

// Pause stops the program until Resume.
func (p *Process) Pause() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets the program go on after Pause.
func (p *Process) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// Alive returns an error with the end of the output if the program has exited.
func (p *Process) Alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s exited (%s):\n%s", p.name, p.cmd.ProcessState, p.output.last())
	default:
		return nil
	}
}

// CPU returns the CPU time of the program and its children, with a resolution of 10 ms.
func (p *Process) CPU() (time.Duration, error) { return cpuTime(p.cmd.Process.Pid) }

// Memory is the memory of a process without its children, in bytes.
type Memory struct {
	Resident  int64 // now
	Anonymous int64 // the part of Resident that is not pages of files, such as the program
	Peak      int64 // the largest Resident so far
}

// Memory returns the memory of the process.
func (p *Process) Memory() (Memory, error) { return memory(p.cmd.Process.Pid) }

// PeakMemory returns the largest resident memory that the process has had, in bytes.
func (p *Process) PeakMemory() (int64, error) {
	m, err := p.Memory()
	return m.Peak, err
}

// Self is this process without its children.
type Self struct{}

// CPU returns the CPU time of this process.
func (Self) CPU() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("read the CPU time: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// Alive returns nil.
func (Self) Alive() error { return nil }

// TreeCPU returns the CPU time of a process and its children, for a process that was not started by Start.
func TreeCPU(pid int) (time.Duration, error) { return cpuTime(pid) }

// OwnTreeCPU returns the CPU time of this process and all its children.
func OwnTreeCPU() (time.Duration, error) { return cpuTime(os.Getpid()) }

// Lines returns how many lines the program has written. The number is complete after it has stopped.
func (p *Process) Lines() int64 { return p.output.count() }

// output counts the lines of a program and stores the end of its output.
type output struct {
	mu    sync.Mutex
	lines int64
	tail  []byte
}

func (o *output) drain(from io.ReadCloser) {
	defer func() { _ = from.Close() }()
	tick := time.NewTicker(readInterval)
	defer tick.Stop()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		o.add(buffer[:n])
		if err != nil {
			return
		}
		<-tick.C
	}
}

func (o *output) add(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines += int64(bytes.Count(b, []byte("\n")))
	b = b[max(0, len(b)-tailSize):]
	o.tail = append(o.tail[min(len(o.tail), max(0, len(o.tail)+len(b)-tailSize)):], b...)
}

func (o *output) count() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lines
}

func (o *output) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(bytes.TrimSpace(o.tail))
}

// FreeAddress returns an unused loopback address, outside the kernel's range of ephemeral ports.
func FreeAddress() (string, error) {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", errors.New("find a free port on loopback: none in 100 attempts")
}
