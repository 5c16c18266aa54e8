package pgserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// ctype makes upper and lower case work beyond ASCII; order stays by bytes.
const ctype = "C.UTF-8"

// Capabilities that pass closed directories, the smaller one first; containers often have only the second. capabilities(7)
const (
	capDACOverride   = 1
	capDACReadSearch = 2
)

func (a account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Credential: a.credential, Pdeathsig: syscall.SIGINT}
	if a.passes {
		attr.AmbientCaps = []uintptr{passCapability()}
	}
	return attr
}

func canPass() bool { return passCapability() != 0 }

func passCapability() uintptr {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, line, _ := strings.Cut(string(status), "\nCapPrm:\t")
	var permitted uint64
	if _, err := fmt.Sscanf(line, "%x", &permitted); err != nil {
		return 0
	}
	for _, c := range []uintptr{capDACReadSearch, capDACOverride} {
		if permitted&(1<<c) != 0 {
			return c
		}
	}
	return 0
}

// isPostmaster says whether process pid is a PostgreSQL server on data: it works in its data directory.
func isPostmaster(pid int, data string) (bool, error) {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || strings.TrimSpace(string(comm)) != "postgres" {
		return false, nil //nolint:nilerr // no such process
	}
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // it ended meanwhile
	}
	if err != nil {
		return false, fmt.Errorf("look at the postgres with process id %d: %w", pid, err)
	}
	info, err := os.Stat(data)
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", data, err)
	}
	return os.SameFile(cwd, info), nil
}
