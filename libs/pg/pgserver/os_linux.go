package pgserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// ctype enables upper and lower case beyond ASCII. The sort order remains by bytes.
const ctype = "C.UTF-8"

// Capabilities to search any directory, capabilities(7). CAP_DAC_READ_SEARCH grants less; containers often have only
// CAP_DAC_OVERRIDE.
const (
	capDACOverride   = 1
	capDACReadSearch = 2
)

func (a account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Credential: a.credential, Pdeathsig: syscall.SIGINT}
	if a.bypass {
		attr.AmbientCaps = []uintptr{bypassCapability()}
	}
	return attr
}

func canBypass() bool { return bypassCapability() != 0 }

func bypassCapability() uintptr {
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

// isPostmaster reports whether process pid is a PostgreSQL server on data, which is then its working directory.
func isPostmaster(pid int, data string) (bool, error) {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || strings.TrimSpace(string(comm)) != "postgres" {
		return false, nil //nolint:nilerr // no such process
	}
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return false, nil // it has ended, or is ending, or is another user's
	}
	if err != nil {
		return false, fmt.Errorf("inspect the postgres process %d: %w", pid, err)
	}
	info, err := os.Stat(data)
	if err != nil {
		return false, fmt.Errorf("inspect %s: %w", data, err)
	}
	return os.SameFile(cwd, info), nil
}

// sharedMemoryInUse reports whether a process uses the System V shared memory with this id.
func sharedMemoryInUse(id string) bool {
	segments, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(segments)) {
		if f := strings.Fields(line); len(f) > 6 && f[1] == id {
			return f[6] != "0" // the number of processes that have attached it
		}
	}
	return false
}
