// Package lockdir ensures that only one process uses a directory.
package lockdir

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Name is the name of the file in a directory that Lock locks.
const Name = "lock"

// Lock ensures that only one process uses dir, until unlock is called or the process dies. It fails if another one does.
func Lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, Name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of %s: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s is used by another running process: stop it or choose another directory", dir)
	}
	return func() {
		// A process that is being forked holds a copy of the file until it executes its program, so closing may not unlock.
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		_ = f.Close()
	}, nil
}
