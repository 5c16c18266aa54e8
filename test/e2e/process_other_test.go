//go:build !linux

package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// processesOf lists the processes that name a data directory in their arguments.
func processesOf(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(ps(t, "-axo", "pid=,command=")) {
		if strings.Contains(line, dir) {
			found = append(found, line)
		}
	}
	return found
}

func resetPeak(testing.TB, int) {}

// peak is the memory that a process has now, in bytes: this kernel does not report the peak.
func peak(t testing.TB, pid int) int64 {
	t.Helper()
	var kB int64
	_, err := fmt.Sscan(ps(t, "-o", "rss=", "-p", fmt.Sprint(pid)), &kB)
	require.NoError(t, err)
	return kB << 10
}

func ps(t testing.TB, arguments ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", arguments...).Output()
	require.NoError(t, err)
	return string(out)
}
