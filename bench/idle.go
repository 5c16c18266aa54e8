package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
)

const (
	idleTime   = time.Minute // from ready to the measurement
	idleMemory = 35 << 20    // bytes
	idleStart  = time.Second // from the start of a process to ready
)

// idleProcess is one of the five services.
type idleProcess struct {
	name     string
	settings []string
	first    time.Duration // start to ready with an empty database
	start    time.Duration // start to ready
	memory   process.Memory
}

// idle measures what each of the five services needs that nobody uses: the resident memory a minute after it was ready, and how long
// it takes to be ready. The results are those of the largest and of the slowest; the notes have all.
func idle(ctx context.Context, b *bench) (_ []report.Result, err error) {
	b.printf("idle: resident memory of each service a minute after it was ready, and start to ready")
	e := environment{}
	defer func() { err = errors.Join(err, e.close()) }()
	database, err := e.startPostgres(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.start(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "recordings-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	secret := "SECRET_KEY=" + conf.NewSecret()
	tables := "DATABASE_URL=" + database.URL()
	services := []*idleProcess{
		{name: "auth", settings: []string{tables, secret}},
		{name: "calls", settings: []string{tables, secret, "CRM_URL=" + e.url, "STORAGE_URL=file://" + dir, "OPENAI_API_KEY=none"}},
		{name: "crm", settings: []string{tables, "CALLS_URL=" + e.url}},
		{name: "notify", settings: []string{tables, secret}},
		{name: "gateway", settings: []string{"CALLS_URL=" + e.url, "CRM_URL=" + e.url, "NOTIFY_URL=" + e.url}},
	}
	running := map[string]*service{}
	for _, s := range services {
		for _, took := range []*time.Duration{&s.first, &s.start} {
			if before := running[s.name]; before != nil {
				if err := before.Stop(); err != nil {
					return nil, err
				}
			}
			watch := clock.Stopwatch()
			if running[s.name], err = e.startService(ctx, b, s.name, process.Any, s.settings...); err != nil {
				return nil, err
			}
			if err := running[s.name].ready(ctx); err != nil {
				return nil, err
			}
			*took = watch()
		}
	}
	b.printf("  waiting a minute")
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(idleTime):
	}
	var memories, starts []string
	memory := report.Result{Name: "idle memory", Peer: "limit", Unit: "MB", Floor: 1, Goal: 20.0 / 35}
	start := report.Result{Name: "start to ready", Peer: "limit", Unit: "ms", Floor: 1, Goal: 0.3}
	largest, slowest := 0.0, 0.0
	for _, s := range services {
		if s.memory, err = running[s.name].Memory(); err != nil {
			return nil, err
		}
		largest, slowest = max(largest, float64(s.memory.Resident)), max(slowest, float64(s.start))
		memories = append(memories, fmt.Sprintf("%s %d MB (%d without the program's own pages)", s.name, s.memory.Resident>>20, s.memory.Anonymous>>20))
		starts = append(starts, fmt.Sprintf("%s %d ms (%d with an empty database)", s.name, s.start.Milliseconds(), s.first.Milliseconds()))
	}
	memory.Rounds, memory.Ratio = limited(largest/(1<<20), idleMemory>>20)
	start.Rounds, start.Ratio = limited(slowest/float64(time.Millisecond), float64(idleStart/time.Millisecond))
	memory.Notes, start.Notes = []string{strings.Join(memories, ", ")}, []string{strings.Join(starts, ", ")}
	return []report.Result{memory, start}, nil
}

// limited returns the only round of a measurement against a limit.
func limited(value, limit float64) ([]report.Round, float64) {
	return []report.Round{{Ours: report.Measure{Value: value}, Peer: report.Measure{Value: limit}, Ratio: value / limit}}, value / limit
}
