package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/convoflow/convoflow/libs/lockdir"
)

// account is the user that PostgreSQL runs as. The zero value is the user of this process.
type account struct {
	name       string
	credential *syscall.Credential
	// bypass says that the process needs a capability to search directories, because a parent of the data is closed to it.
	bypass bool
}

// findAccount returns this process's own user. For root it returns the owner of the data in dir, or a system user for new data.
func findAccount(dir string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	a, err := unprivileged(dir)
	if err != nil {
		return account{}, err
	}
	closed, err := a.closedParent(dir)
	if err != nil {
		return account{}, err
	}
	a.bypass = closed != ""
	if a.bypass && !canBypass() {
		return account{}, fmt.Errorf("PostgreSQL cannot run as root, and the user %s may not enter %s, which holds its data: "+
			"choose a data directory elsewhere, or `chmod o+x %s`", a.name, closed, closed)
	}
	return a, nil
}

func unprivileged(dir string) (account, error) {
	if info, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid != 0 {
			name := strconv.FormatUint(uint64(owner.Uid), 10)
			return account{name: name, credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return account{}, fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		return account{name: name, credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return account{}, errors.New("PostgreSQL cannot run as root, and there is neither a user postgres nor nobody: add one, or start as another user")
}

// closedParent returns the first existing parent of dir that the account may not enter, or "" if it may enter all.
func (a account) closedParent(dir string) (string, error) {
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("check the permissions of %s: %w", parent, err)
		}
		if err == nil && !a.mayEnter(info) {
			return parent, nil
		}
		if parent == filepath.Dir(parent) {
			return "", nil
		}
	}
}

func (a account) mayEnter(info fs.FileInfo) bool {
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && owner.Uid == a.credential.Uid:
		return info.Mode().Perm()&0o100 != 0
	case ok && owner.Gid == a.credential.Gid:
		return info.Mode().Perm()&0o010 != 0
	}
	return info.Mode().Perm()&0o001 != 0
}

// mkdir creates dir, accessible to the account alone. Parents that it creates are accessible to everybody. It refuses a
// directory that contains other files.
func (a account) mkdir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("create the directory of postgres: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create the directory of postgres: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the directory of postgres: %w", err)
	}
	ours := func(e fs.DirEntry) bool { return e.Name() == lockdir.Name }
	if len(entries) > 0 && !slices.ContainsFunc(entries, ours) {
		return fmt.Errorf("%s holds other things: PostgreSQL needs a new or empty directory", dir)
	}
	return a.own(dir)
}

// writeFile writes a file that only the account may read.
func (a account) writeFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return a.own(path)
}

func (a account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	if err := os.Chown(path, int(a.credential.Uid), int(a.credential.Gid)); err != nil {
		return fmt.Errorf("change the owner of %s to %s: %w", path, a.name, err)
	}
	return nil
}

// command returns the command that runs a program of PostgreSQL as the account.
func (a account) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = "/" // the account may not be allowed to enter this process's working directory
	cmd.SysProcAttr = a.attributes()
	return cmd
}
