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

// ctype makes upper and lower case work beyond ASCII; order stays by bytes.
const ctype = "UTF-8"

func (a account) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: a.credential}
}

func canPass() bool { return false }

// isPostmaster says whether process pid is a PostgreSQL server on data, by its command line.
func isPostmaster(pid int, data string) (bool, error) {
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil && !errors.As(err, new(*exec.ExitError)) { // ps exits with 1 when there is no such process
		return false, fmt.Errorf("look at process %d: %w", pid, err)
	}
	return strings.Contains(string(out), "postgres -D "+data+" "), nil
}
