//go:build !linux

package pgserver

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// ctype enables upper and lower case beyond ASCII. The sort order remains by bytes.
const ctype = "UTF-8"

func (a account) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: a.credential}
}

func canBypass() bool { return false }

// isPostmaster reports whether process pid is a PostgreSQL server on data, judging by its command line.
func isPostmaster(pid int, data string) (bool, error) {
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil && !errors.As(err, new(*exec.ExitError)) { // ps exits with 1 when there is no such process
		return false, fmt.Errorf("inspect process %d: %w", pid, err)
	}
	return strings.Contains(string(out), "postgres -D "+data+" "), nil
}

// sharedMemoryInUse is not known here. If it is, postgres refuses to start and says so.
func sharedMemoryInUse(string) bool { return false }
