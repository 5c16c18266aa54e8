package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAFailedPartEndsThePlatform: after PostgreSQL had ended, the process once remained alive with nothing running in it,
// until Ctrl-C, so a supervisor did not notice.
func TestAFailedPartEndsThePlatform(t *testing.T) {
	t.Parallel()
	s := newPlatform(t, fakes{}, false)
	s.start()
	require.NoError(t, syscall.Kill(s.postmaster(), syscall.SIGKILL))
	p := s.units[0].runs[0]
	// River resigns its leadership before it stops, and retries for a while without the database.
	poll(t, startTimeout, "the process has ended", p.Ended)
	require.Equal(t, exitFailed, p.wait(t))
	require.Contains(t, p.Output.String(), "PostgreSQL exited")
	require.Contains(t, p.Output.String(), filepath.Join(s.dir, "convoflow.log"))
}

// postmaster returns the process id of the embedded PostgreSQL.
func (s *stack) postmaster() (pid int) {
	s.t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.dir, "postgres", "data", "postmaster.pid"))
	require.NoError(s.t, err)
	_, err = fmt.Sscan(string(raw), &pid)
	require.NoError(s.t, err)
	return pid
}
