// Package postgres runs PostgreSQL for a benchmark, tells what it costs, and runs pgbench on it.
package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/libs/pg/pgserver"
)

// database is the one that every cluster has.
const database = "postgres"

// Server is a running PostgreSQL that writes to the disk as in production.
type Server struct {
	server *pgserver.Server
	pid    int
	bin    string // directory of its programs
}

// Start makes a cluster in dir, which must be new or empty, and starts a server on it. POSTGRES_BIN names the directory of
// another version.
func Start(ctx context.Context, dir string) (*Server, error) {
	server, err := pgserver.Start(ctx, pgserver.Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Bin: os.Getenv("POSTGRES_BIN")})
	if err != nil {
		return nil, err
	}
	s := &Server{server: server}
	if err := s.inspect(filepath.Join(dir, "data", "postmaster.pid")); err != nil {
		_ = server.Stop(ctx)
		return nil, err
	}
	return s, nil
}

// inspect finds the server's process, and by that its programs.
func (s *Server) inspect(pidFile string) error {
	content, err := os.ReadFile(pidFile)
	if err != nil {
		return fmt.Errorf("find the process of postgres: %w", err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	if s.pid, err = strconv.Atoi(line); err != nil {
		return fmt.Errorf("find the process of postgres: %w", err)
	}
	executable, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.pid))
	if err != nil {
		return fmt.Errorf("find the programs of postgres: %w", err)
	}
	s.bin = filepath.Dir(executable)
	return nil
}

// Stop shuts the server down and waits for it.
func (s *Server) Stop(ctx context.Context) error { return s.server.Stop(ctx) }

// URL is the superuser's connection string.
func (s *Server) URL() string { return s.server.URL(database) }

// CPU is the time that the server and all its backends have computed, those that have ended included.
func (s *Server) CPU() (time.Duration, error) { return process.TreeCPU(s.pid) }

// Alive is an error once the server has ended.
func (s *Server) Alive() error {
	select {
	case <-s.server.Done():
		return fmt.Errorf("PostgreSQL ended: %w", s.server.Err())
	default:
		return nil
	}
}
