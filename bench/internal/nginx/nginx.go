// Package nginx runs nginx as the peer of the gateway, and as the cheap upstream of both. It uses the installed binary without its
// configuration.
package nginx

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/template"

	"github.com/convoflow/convoflow/bench/internal/process"
)

//go:embed nginx.conf
var conf string

// Server is a running nginx.
type Server struct {
	*process.Process
	URL string
}

// settings configure a server, which has either an Upstream or a Body.
type settings struct {
	Addr, Upstream, Body string
	Workers              int
}

// Upstream starts a server that responds to every request with body, as JSON. The body must not contain ', \ or $.
func Upstream(ctx context.Context, dir, body string, core process.Core) (*Server, error) {
	return start(ctx, filepath.Join(dir, "upstream"), settings{Body: body}, core)
}

// Proxy starts a server that forwards every request to the upstream over persistent connections.
func Proxy(ctx context.Context, dir, upstream string, core process.Core) (*Server, error) {
	return start(ctx, filepath.Join(dir, "proxy"), settings{Upstream: strings.TrimPrefix(upstream, "http://")}, core)
}

// start runs nginx in a new directory.
func start(ctx context.Context, dir string, s settings, core process.Core) (*Server, error) {
	var err error
	s.Workers = 1
	if core == process.Any {
		s.Workers = runtime.NumCPU()
	}
	if s.Addr, err = process.FreeAddress(); err != nil {
		return nil, err
	}
	parsed, err := template.New("nginx.conf").Parse(conf)
	if err != nil {
		return nil, fmt.Errorf("parse nginx's configuration: %w", err)
	}
	var text bytes.Buffer
	if err := parsed.Execute(&text, s); err != nil {
		return nil, fmt.Errorf("write nginx's configuration: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make nginx's directory: %w", err)
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return nil, fmt.Errorf("write nginx's configuration: %w", err)
	}
	p, err := process.Start(ctx, process.Program{
		Name: "nginx in " + dir, Argv: []string{"nginx", "-p", dir, "-c", file, "-e", "stderr"}, Core: core,
	})
	if err != nil {
		return nil, err
	}
	return &Server{Process: p, URL: "http://" + s.Addr}, nil
}
