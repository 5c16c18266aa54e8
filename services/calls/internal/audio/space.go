package audio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// space is a directory of temporary files that belongs to this process, which holds a lock in it. The kernel releases the lock
// however the process terminates.
type space struct {
	dir  string
	lock *os.File
}

const lockName = "lock"

// claim creates a space below root and removes those of dead processes.
func claim(root string) (*space, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	if err := removeDead(root); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(root, "")
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &space{dir: dir, lock: lock}, nil
}

func removeDead(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := filepath.Join(root, entry.Name())
		if err := removeIfDead(dir); err != nil {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
	}
	return nil
}

func removeIfDead(dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // another process is creating it now, or it is another user's
	}
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil // its process is alive
	}
	return os.RemoveAll(dir)
}

func (s *space) directory() (string, error) { return os.MkdirTemp(s.dir, "call-") }

func (s *space) release() {
	_ = os.RemoveAll(s.dir)
	_ = s.lock.Close()
}
