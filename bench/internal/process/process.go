// Package process runs the programs of a benchmark, each on the cores it is given and with nothing of the developer's own
// environment, and tells what they cost. A program does not outlive this process, however that ends.
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
	stopPatience = 20 * time.Second // the services drain for up to 8 s
	// drainEvery is how long output may lie in its pipe. Reading each line as it comes would wake this process for each
	// request, on the core that makes the load.
	drainEvery = 2 * time.Millisecond
	// pipeSize is room for what a program writes while this process waits for that core, bytes.
	pipeSize = 1 << 20
	tailSize = 4 << 10 // bytes of output that an error shows
)

// Program is what to run.
type Program struct {
	Name string
	Argv []string
	Env  []string // beside PATH, HOME and TMPDIR
	Core Core
}

// Core is a core by its number, or Any.
type Core int

// Any leaves it to the kernel where a program runs.
const Any Core = -1

// Process is a running program.
type Process struct {
	name   string
	cmd    *exec.Cmd
	ended  chan struct{}
	output output
}

// command is the program, ready to start.
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

// Run runs a program to its end and returns what it wrote. It is killed when ctx ends.
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

// Start starts a program, which runs until Stop and not until ctx ends.
func Start(ctx context.Context, p Program) (*Process, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for %s: %w", p.Name, err)
	}
	defer func() { _ = write.Close() }()
	widen(read)
	cmd := p.command(context.WithoutCancel(ctx)) // Stop ends it in order
	cmd.Stdout, cmd.Stderr = write, write
	started := &Process{name: p.Name, cmd: cmd, ended: make(chan struct{})}
	failed := make(chan error)
	go func() {
		// The death signal of a child is tied to the thread that made it, so that thread stays until the child has ended.
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
		_ = cmd.Wait() // its state says how it ended

		// Children it left behind would keep the pipe open.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-drained
	}()
	if err := <-failed; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	return started, nil
}

// Stop asks the program to end and waits for it. Further calls do nothing.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopPatience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not stop within %s and was killed", p.name, stopPatience)
	}
}

// Alive is an error with the end of the output once the program has ended.
func (p *Process) Alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended (%s):\n%s", p.name, p.cmd.ProcessState, p.output.last())
	default:
		return nil
	}
}

// CPU is the time that the program and its children have computed, to 10 ms.
func (p *Process) CPU() (time.Duration, error) { return cpuTime(p.cmd.Process.Pid) }

// Self is this process, without what it has started.
type Self struct{}

// CPU is the time that this process has computed.
func (Self) CPU() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("read the CPU time: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// Alive is nil.
func (Self) Alive() error { return nil }

// TreeCPU is the CPU time of any process and its children, for one that was not started here.
func TreeCPU(pid int) (time.Duration, error) { return cpuTime(pid) }

// FamilyCPU is the time that this process and everything it has started have computed.
func FamilyCPU() (time.Duration, error) { return cpuTime(os.Getpid()) }

// Lines is how many lines the program has written; all of them are counted once it has stopped.
func (p *Process) Lines() int64 { return p.output.count() }

// output counts what a program writes and keeps the end of it.
type output struct {
	mu    sync.Mutex
	lines int64
	tail  []byte
}

func (o *output) drain(from io.ReadCloser) {
	defer func() { _ = from.Close() }()
	tick := time.NewTicker(drainEvery)
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

// FreeAddress is one of loopback that nobody listens on, outside the range from which the kernel takes ports by itself.
func FreeAddress() (string, error) {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", errors.New("find a free port on loopback: none in 100 attempts")
}
