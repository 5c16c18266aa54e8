// Package load sends many requests and counts the responses: as many as a server can handle (Wrk), or at a constant rate
// (Steady). Any response other than a 2xx fails the whole run, because refusals are fast.
package load

import (
	"context"
	_ "embed"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/convoflow/convoflow/bench/internal/process"
)

//go:embed done.lua
var done string

//go:embed mix.lua
var mix string

// Target is a request.
type Target struct {
	URL   string
	Token string
}

// Wrk is the load generator wrk. It is a closed loop: a connection sends its next request after the response to the last.
type Wrk struct {
	dir         string
	connections int
	core        process.Core
}

// The files of a Wrk, in its directory.
const (
	doneFile = "done.lua"
	mixFile  = "mix.lua"
)

// NewWrk returns a wrk that runs on a core. Its scripts are stored in dir.
func NewWrk(dir string, connections int, core process.Core) (Wrk, error) {
	for name, script := range map[string]string{doneFile: done, mixFile: mix + done} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o600); err != nil {
			return Wrk{}, fmt.Errorf("write wrk's script: %w", err)
		}
	}
	return Wrk{dir: dir, connections: connections, core: core}, nil
}

// Run sends requests for d, in whole seconds, and returns the number of responses and how long that took.
func (w Wrk) Run(ctx context.Context, t Target, d time.Duration) (requests int, took time.Duration, err error) {
	return w.run(ctx, d, doneFile, "-H", "Authorization: Bearer "+t.Token, t.URL)
}

// Mix is a set of requests to one server, which Wrk.RunMix sends in random order.
type Mix struct{ server, file string }

// NewMix creates a mix of one or more targets, all on the same server. Only this Wrk can run it.
func (w Wrk) NewMix(name string, targets []Target) (Mix, error) {
	server, err := url.Parse(targets[0].URL)
	if err != nil {
		return Mix{}, fmt.Errorf("read the URL: %w", err)
	}
	var lines strings.Builder
	for _, t := range targets {
		u, err := url.Parse(t.URL)
		if err != nil {
			return Mix{}, fmt.Errorf("read the URL: %w", err)
		}
		if u.Host != server.Host {
			return Mix{}, fmt.Errorf("%s is not on the server %s", t.URL, server.Host)
		}
		_, _ = fmt.Fprintf(&lines, "%s %s\n", t.Token, u.RequestURI())
	}
	m := Mix{server: "http://" + server.Host, file: filepath.Join(w.dir, name+".requests")}
	if err := os.WriteFile(m.file, []byte(lines.String()), 0o600); err != nil {
		return Mix{}, fmt.Errorf("write wrk's requests: %w", err)
	}
	return m, nil
}

// RunMix is Run with the requests of a mix.
func (w Wrk) RunMix(ctx context.Context, m Mix, d time.Duration) (requests int, took time.Duration, err error) {
	return w.run(ctx, d, mixFile, m.server, "--", m.file)
}

func (w Wrk) run(ctx context.Context, d time.Duration, script string, args ...string) (requests int, took time.Duration, err error) {
	out, err := process.Run(ctx, process.Program{Name: "wrk", Core: w.core, Argv: append([]string{
		"wrk", "-t1", fmt.Sprintf("-c%d", w.connections), fmt.Sprintf("-d%ds", int(d.Seconds())), "-s", filepath.Join(w.dir, script),
	}, args...)})
	if err != nil {
		return 0, 0, err
	}
	var micros, refused, broken int
	_, said, _ := strings.Cut(out, "\nDONE ")
	if _, err := fmt.Sscan(said, &requests, &micros, &refused, &broken); err != nil {
		return 0, 0, fmt.Errorf("read what wrk counted: %w\n%s", err, out)
	}
	if requests == 0 || refused+broken > 0 {
		return 0, 0, fmt.Errorf("%d answers, %d of them no 2xx, and %d errors of the connections:\n%s", requests, refused, broken, out)
	}
	return requests, time.Duration(micros) * time.Microsecond, nil
}
