package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// processesOf lists the processes that work for a data directory: those that name it in their arguments and those that work
// in it.
func processesOf(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	var found []string
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		proc := filepath.Join("/proc", entry.Name())
		arguments, _ := os.ReadFile(filepath.Join(proc, "cmdline")) // a process that has ended has none
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd"))
		if strings.Contains(string(arguments), dir) || strings.HasPrefix(cwd, dir) {
			found = append(found, entry.Name()+" "+strings.ReplaceAll(string(arguments), "\x00", " "))
		}
	}
	return found
}

// resetPeak resets the peak memory of a process.
func resetPeak(t testing.TB, pid int) {
	t.Helper()
	require.NoError(t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0))
}

// peak returns the peak memory of a process since the reset, in bytes: VmHWM of proc(5).
func peak(t testing.TB, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	var kB int64
	_, err = fmt.Sscan(line, &kB)
	require.NoError(t, err)
	return kB << 10
}
