// Package postgres runs PostgreSQL for a benchmark, measures its CPU time, and runs pgbench on it.
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

// database exists in every cluster.
const database = "postgres"

// Server is a running PostgreSQL with durable writes, as in production.
type Server struct {
	server *pgserver.Server
	pid    int
	bin    string // directory of its programs
}

// Start creates a cluster in dir, which must be new or empty, and starts a server. POSTGRES_BIN is the directory of another
// version.
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

// inspect finds the server's process and the directory of its programs.
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

// URL returns the superuser's connection string.
func (s *Server) URL() string { return s.server.URL(database) }

// CPU returns the CPU time of the server and all its backends, including those that have exited.
func (s *Server) CPU() (time.Duration, error) { return process.TreeCPU(s.pid) }

// Alive returns an error if the server has exited.
func (s *Server) Alive() error {
	select {
	case <-s.server.Done():
		return fmt.Errorf("PostgreSQL exited: %w", s.server.Err())
	default:
		return nil
	}
}
