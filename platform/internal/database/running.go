package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// answerTimeout is how long a running PostgreSQL may take to answer. It takes milliseconds, but not on an overloaded machine, whose operator
// needs the commands most.
const answerTimeout = 30 * time.Second

// Running returns the administrator's URL of a database, if another process runs a PostgreSQL server on dir, a directory of
// libs/pg/pgserver. running is false if no server answers.
func Running(ctx context.Context, dir, name string) (adminURL string, running bool, err error) {
	// The first line is the process id and the fourth the port. The file remains if PostgreSQL is killed.
	content, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	password, passwordErr := os.ReadFile(filepath.Join(dir, "password"))
	if err := errors.Join(err, passwordErr); err != nil {
		return "", false, fmt.Errorf("find the running PostgreSQL: %w", err)
	}
	lines := strings.Split(string(content), "\n")
	if len(lines) < 4 {
		return "", false, nil // it is being written
	}
	if pid, err := strconv.Atoi(lines[0]); err != nil || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return "", false, nil // another program may use the port now
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", string(password)), Host: net.JoinHostPort("127.0.0.1", lines[3]), Path: "/" + name,
		RawQuery: "sslmode=disable",
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, u.String())
	if errors.Is(err, syscall.ECONNREFUSED) || isCode(err, cannotConnectNow) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("connect to the running PostgreSQL: %w", err)
	}
	return u.String(), true, conn.Close(ctx)
}
