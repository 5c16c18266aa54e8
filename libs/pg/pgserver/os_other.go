//go:build !linux

package pgserver

import (
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
func isPostmaster(pid int, data string) bool {
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), "postgres -D "+data)
}
