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

const answerTimeout = 5 * time.Second // a PostgreSQL that runs answers in milliseconds

// Running is the administrator's URL of a database in the server that another process runs on dir, a directory of
// libs/pg/pgserver, and whether there is one that answers.
func Running(ctx context.Context, dir, name string) (adminURL string, running bool, err error) {
	// Process id and port are in the first and the fourth line; the file stays when PostgreSQL is killed.
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
		return "", false, nil // somebody else may have the port by now
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
