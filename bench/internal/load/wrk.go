// Package load sends one request again and again and counts the answers: as many as a server can take (Wrk), or a constant
// rate (Steady). Any answer but a 2xx fails the whole run, for a proxy that refuses is fast.
package load

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/convoflow/convoflow/bench/internal/process"
)

//go:embed done.lua
var done string

// Target is the request.
type Target struct {
	URL   string
	Token string
}

// Wrk is the load generator wrk: closed loop, the next request on a connection follows the answer to the last.
type Wrk struct {
	script      string
	connections int
	core        process.Core
}

// NewWrk makes a wrk that runs on a core and keeps its script in dir.
func NewWrk(dir string, connections int, core process.Core) (Wrk, error) {
	w := Wrk{script: dir + "/done.lua", connections: connections, core: core}
	if err := os.WriteFile(w.script, []byte(done), 0o600); err != nil {
		return Wrk{}, fmt.Errorf("write wrk's script: %w", err)
	}
	return w, nil
}

// Run sends for d, in whole seconds, and returns how many requests were answered and how long that took.
func (w Wrk) Run(ctx context.Context, t Target, d time.Duration) (requests int, took time.Duration, err error) {
	out, err := process.Run(ctx, process.Program{Name: "wrk", Core: w.core, Argv: []string{
		"wrk", "-t1", fmt.Sprintf("-c%d", w.connections), fmt.Sprintf("-d%ds", int(d.Seconds())),
		"-s", w.script, "-H", "Authorization: Bearer " + t.Token, t.URL,
	}})
	if err != nil {
		return 0, 0, err
	}
	var micros, refused, broken int
	_, said, _ := strings.Cut(out, "\nDONE ")
	if _, err := fmt.Sscan(said, &requests, &micros, &refused, &broken); err != nil {
		return 0, 0, fmt.Errorf("read what wrk counted: %w\n%s", err, out)
	}
	if requests == 0 || refused+broken > 0 {
		return 0, 0, fmt.Errorf("%s: %d answers, %d of them no 2xx, and %d errors of the connections", t.URL, requests, refused, broken)
	}
	return requests, time.Duration(micros) * time.Microsecond, nil
}
