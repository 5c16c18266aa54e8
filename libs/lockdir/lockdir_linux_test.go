package lockdir_test

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/lockdir"
)

// A child has a copy of every open file between fork and exec.
func TestALockEndsAlthoughAChildHasACopyOfItsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unlock, err := lockdir.Lock(dir)
	require.NoError(t, err)
	files, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	copies := 0
	for _, f := range files {
		name := filepath.Join("/proc/self/fd", f.Name())
		if target, err := os.Readlink(name); err != nil || target != filepath.Join(dir, lockdir.Name) {
			continue
		}
		fd, err := strconv.Atoi(f.Name())
		require.NoError(t, err)
		duplicate, err := syscall.Dup(fd)
		require.NoError(t, err)
		t.Cleanup(func() { _ = syscall.Close(duplicate) })
		copies++
	}
	require.Positive(t, copies)
	unlock()
	_, err = lockdir.Lock(dir)
	require.NoError(t, err)
}
