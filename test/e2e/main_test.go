// Package e2e tests whole Convoflows from outside: the platform in one process, and the five services as processes of their
// own. It knows the binaries, their settings and the HTTP contract at the gateway, and imports no service. OpenAI, Pabbly
// Connect and the trace collector are the fakes of this module; everything else is real.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/convoflow/convoflow/libs/pg/pgtest/temporary"
	"github.com/convoflow/convoflow/test/internal/program"
)

// built has the binaries of this test run.
var built = binaries{}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "convoflow-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	built.dir = dir
	flag.Parse()
	// These tests mostly wait: for leases to expire and processes to start.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code := temporary.Run(m.Run)
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// binaries builds each program once, when the first test needs it.
type binaries struct {
	dir  string
	mu   sync.Mutex
	made map[string]error
}

// platform returns the binary of the whole platform. With race it has the race detector.
func (b *binaries) platform(t testing.TB, race bool) string {
	if race {
		return b.build(t, "convoflow-race", "", "./platform/cmd/convoflow", "-race")
	}
	return b.build(t, "convoflow", "", "./platform/cmd/convoflow")
}

// service returns the binary of one service, built as for its image: without the workspace.
func (b *binaries) service(t testing.TB, name string) string {
	dir := filepath.Join("services", name)
	if name == "gateway" {
		dir = name
	}
	return b.build(t, name, dir, "./cmd/"+name)
}

func (b *binaries) build(t testing.TB, name, module, pkg string, flags ...string) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	path := filepath.Join(b.dir, name)
	err, done := b.made[name]
	if !done {
		err = program.Build(t.Context(), filepath.Join("..", ".."), path, module, pkg, flags...)
		if b.made == nil {
			b.made = map[string]error{}
		}
		b.made[name] = err
	}
	if err != nil {
		t.Fatalf("build %s: %v", name, err)
	}
	return path
}
