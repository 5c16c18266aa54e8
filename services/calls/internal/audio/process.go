package audio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// Limits of one run of ffmpeg. A file of 4 kB can claim samples for 2 GB of tables, or days of work.
const (
	maxTime = 15 * time.Minute
	maxCPU  = 10 * time.Minute // an hour of sound takes about 20 s
	// MaxMemory is in bytes of address space, of which the libraries alone are 300 MB; it decodes 8 hours with 60 MB in use.
	MaxMemory  = 640 << 20
	maxBlock   = 128 << 20 // bytes of one allocation, which ffmpeg limits by itself
	maxOutput  = 1 << 20   // bytes of a program's output that are read
	exitLimits = 125       // exit code of the shell if it cannot set the limits; 126 and 127 are those for a program that cannot be run
)

// limit is a shell script that sets limits, which the kernel enforces, and then executes the program with its arguments. The limits
// have to be set in the new process before the program begins: Go cannot do that, and prlimit(2) from outside would be too late.
// Wherever ffmpeg comes from a package there is a shell; prlimit(1) is not in every image. A limit that is lower already stays.
const limit = `
ulimit -c 0
ulimit -t "$1" 2>/dev/null || [ "$(ulimit -t)" -le "$1" ] || exit 125
[ "$2" = 0 ] || ulimit -v "$2" 2>/dev/null || [ "$(ulimit -v)" -le "$2" ] || exit 125
shift 2
exec "$@"`

// limits are what one run of a program may use.
type limits struct {
	cpu    time.Duration
	memory int64 // bytes of address space; 0 is no limit, for systems other than Linux, which have none
}

type output struct {
	stdout, stderr string
	memory         int64 // bytes of the largest resident set, also of a run that failed
}

// errKilled means that a program did not end by itself: it exceeded a limit, or the system had no memory for it.
var errKilled = errors.New("the program was killed")

// execute runs a program within the limits, in a directory and without the environment of this process. When ctx ends, or after
// maxTime, the program and all its child processes are killed.
func (l limits) execute(ctx context.Context, dir, program string, args ...string) (output, error) {
	var stdout capped
	out, err := l.stream(ctx, dir, &stdout, program, args...)
	out.stdout = stdout.String()
	return out, err
}

// stream is execute for a program whose output is not capped: it is written to stdout as it comes.
func (l limits) stream(ctx context.Context, dir string, stdout io.Writer, program string, args ...string) (output, error) {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	limited := []string{"-c", limit, "limit", strconv.Itoa(int(l.cpu.Seconds())), strconv.FormatInt(l.memory>>10, 10), program}
	cmd := exec.CommandContext(ctx, "/bin/sh", append(limited, args...)...)
	var stderr capped
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, []string{"TMPDIR=" + dir, "HOME=" + dir}, stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return nil
	}
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	out := output{stderr: stderr.String()}
	if cmd.ProcessState != nil {
		if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			out.memory = usage.Maxrss << 10
		}
	}
	if err == nil {
		return out, nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && !exit.Exited() {
		err = fmt.Errorf("%w: %w", errKilled, err)
	}
	return out, fmt.Errorf("run %s: %w: %s", program, err, out.stderr[:min(len(out.stderr), 300)])
}

// capped is a buffer that discards what follows the first maxOutput bytes.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	_, _ = c.Buffer.Write(p[:min(len(p), maxOutput-c.Len())]) // a buffer never fails
	return len(p), nil
}
