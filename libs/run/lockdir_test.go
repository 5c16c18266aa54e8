package run_test

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/run"
)

func TestOneProcessAtATimeHasADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unlock, err := run.LockDir(dir)
	require.NoError(t, err)
	_, err = run.LockDir(dir)
	require.ErrorContains(t, err, dir+" is used by another running process")
	unlock()
	unlock, err = run.LockDir(dir)
	require.NoError(t, err)
	unlock()
	_, err = run.LockDir(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A child has a copy of every open file between fork and exec.
func TestALockEndsAlthoughAChildHasACopyOfItsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unlock, err := run.LockDir(dir)
	require.NoError(t, err)
	files, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	copies := 0
	for _, f := range files {
		name := filepath.Join("/proc/self/fd", f.Name())
		if target, err := os.Readlink(name); err != nil || target != filepath.Join(dir, run.LockName) {
			continue
		}
		var fd int
		for _, digit := range f.Name() {
			fd = 10*fd + int(digit-'0')
		}
		duplicate, err := syscall.Dup(fd)
		require.NoError(t, err)
		t.Cleanup(func() { _ = syscall.Close(duplicate) })
		copies++
	}
	require.Positive(t, copies)
	unlock()
	_, err = run.LockDir(dir)
	require.NoError(t, err)
}
