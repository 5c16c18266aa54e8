package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// minVersion is the oldest PostgreSQL major version that the platform's SQL runs on.
const minVersion = 14

// packaged lists where packages install the binaries: Debian, Red Hat, Homebrew on ARM and on Intel.
var packaged = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
}

// ErrNotInstalled is returned by Start when the machine has no usable PostgreSQL server. Its text says what to install.
var ErrNotInstalled = errors.New("install PostgreSQL " + strconv.Itoa(minVersion) + " or newer (`apt-get install postgresql`), " +
	"or name the directory of its postgres and initdb in POSTGRES_BIN")

// findBinaries returns the directory with postgres and initdb of the major version want; "" means minVersion or newer.
func findBinaries(ctx context.Context, bin, want string) (string, error) {
	dirs := []string{bin}
	if bin == "" {
		dirs = candidates()
	}
	var found []string
	for _, dir := range dirs {
		version, err := majorVersion(ctx, dir)
		if err != nil {
			continue
		}
		if want == "" && version >= minVersion || want == strconv.Itoa(version) {
			return dir, nil
		}
		found = append(found, fmt.Sprintf("%d in %s", version, dir))
	}
	switch {
	case want != "" && len(found) > 0:
		return "", fmt.Errorf("the data is from PostgreSQL %s, found %v: install that version or upgrade the data with pg_upgrade", want, found)
	case len(found) > 0:
		return "", fmt.Errorf("found only PostgreSQL %v: %w", found, ErrNotInstalled)
	case bin != "":
		return "", fmt.Errorf("no postgres and initdb in %s: %w", bin, ErrNotInstalled)
	}
	return "", fmt.Errorf("no PostgreSQL server found: %w", ErrNotInstalled)
}

func candidates() []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for _, pattern := range packaged {
		matches, _ := filepath.Glob(pattern)
		slices.SortFunc(matches, func(a, b string) int { return number(b) - number(a) })
		dirs = append(dirs, matches...)
	}
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

// number returns the first number in s: the major version in a path or in the output of `postgres --version`.
func number(s string) int {
	n, _ := strconv.Atoi(digits.FindString(s))
	return n
}

func majorVersion(ctx context.Context, dir string) (int, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0, fmt.Errorf("find initdb: %w", err)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("run postgres --version: %w", err)
	}
	return number(string(out)), nil
}
