package audio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// maxOutput is the maximum of a program's output that is read, in bytes.
const maxOutput = 1 << 20

type output struct{ stdout, stderr string }

// execute runs a program in a directory, without the environment of this process. When ctx ends, or after maxTime, the program
// and all its child processes are killed.
func execute(ctx context.Context, dir, program string, args ...string) (output, error) {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr capped
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, []string{"TMPDIR=" + dir, "HOME=" + dir}, &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return nil
	}
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Run(); err != nil {
		text := stderr.String()
		return output{}, fmt.Errorf("run %s: %w: %s", program, err, text[:min(len(text), 300)])
	}
	return output{stdout.String(), stderr.String()}, nil
}

// capped is a buffer that discards what follows the first maxOutput bytes.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	_, _ = c.Buffer.Write(p[:min(len(p), maxOutput-c.Len())]) // a buffer never fails
	return len(p), nil
}
