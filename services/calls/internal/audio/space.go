package audio

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/convoflow/convoflow/libs/lockdir"
)

// space is a directory of temporary files that belongs to this process, which holds the lock of the directory. The kernel releases
// the lock however the process terminates.
type space struct {
	dir    string
	unlock func()
}

// unclaimed begins the names of directories that are not locked yet, or being removed.
const unclaimed = ".new-"

// claim creates a space below root and removes those of dead processes.
func claim(root string) (*space, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	if err := removeDead(root); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(root, unclaimed)
	if err != nil {
		return nil, err
	}
	unlock, err := lockdir.Lock(dir)
	if err != nil {
		return nil, err
	}
	// It gets its name only now that it is locked: otherwise another process could take it for dead before that.
	named := filepath.Join(root, strings.TrimPrefix(filepath.Base(dir), unclaimed))
	if err := os.Rename(dir, named); err != nil {
		unlock()
		return nil, err
	}
	return &space{dir: named, unlock: unlock}, nil
}

func removeDead(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), unclaimed) {
			continue
		}
		dir := filepath.Join(root, entry.Name())
		if err := removeIfDead(root, dir); err != nil {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
	}
	return nil
}

func removeIfDead(root, dir string) error {
	unlock, err := lockdir.Lock(dir)
	if err != nil {
		return nil // its process is alive, another process removes it, or it is another user's
	}
	defer unlock()
	removed := filepath.Join(root, unclaimed+filepath.Base(dir))
	if err := os.Rename(dir, removed); err != nil {
		return err
	}
	return os.RemoveAll(removed)
}

func (s *space) directory() (string, error) { return os.MkdirTemp(s.dir, "call-") }

func (s *space) release() {
	_ = os.RemoveAll(s.dir)
	s.unlock()
}
