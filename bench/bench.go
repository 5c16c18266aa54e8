// Package bench compares Convoflow with peers on the same machine at the same time. It owns the method: rounds that alternate
// between both sides, a ratio per round, the median of the ratios. It refuses to fail because of a time: a benchmark fails only
// when something does not work.
package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/clock"
)

// Options configure a run.
type Options struct {
	Only    []string      // names of benchmarks; empty for all
	Rounds  int           // per benchmark
	Length  time.Duration // of one measurement, whole seconds
	Profile bool          // also store CPU profiles of the gateway and the services under full load
	Env     []string      // settings to try, NAME=value, for the gateway and the services
	Bin     string        // the directory of the binaries gateway, auth, crm, calls and notify
	Results string        // the directory for the results
	Commit  string        // commit of the binaries
	Leads   int           // rows of the benchmark leads
	Rows    int           // of an imported file
}

// benchmarks are in the order in which they run.
var benchmarks = []struct {
	name string
	run  func(context.Context, *bench) ([]report.Result, error)
}{
	{"gateway", one(gatewayRate)},
	{"service", one(serviceRate)},
	{"latency", one(gatewayLatency)},
	{"read", reads},
	{"leads", leads},
	{"bulk", bulk},
	{"logins", one(logins)},
	{"inbound", one(inbound)},
	{"search", one(search)},
	{"relay", one(relay)},
	{"effect", effect},
	{"consumer", one(consumer)},
	{"calls", callRecordings},
	{"webhooks", one(webhooks)},
	{"hanging", one(hangingEndpoint)},
	{"idle", idle},
}

// one converts a benchmark with one result.
func one(run func(context.Context, *bench) (report.Result, error)) func(context.Context, *bench) ([]report.Result, error) {
	return func(ctx context.Context, b *bench) ([]report.Result, error) {
		result, err := run(ctx, b)
		return []report.Result{result}, err
	}
}

// Names returns the names of all benchmarks.
func Names() []string {
	var names []string
	for _, b := range benchmarks {
		names = append(names, b.name)
	}
	return names
}

// Check returns what is wrong with the options.
func (o Options) Check() error {
	for _, name := range o.Only {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("there is no benchmark %q: -only takes %s", name, strings.Join(Names(), ","))
		}
	}
	if o.Rounds < 1 || o.Length < time.Second {
		return fmt.Errorf("-rounds and -seconds must be at least 1")
	}
	if o.Leads < leadsPerPage*deepPage*2 {
		return fmt.Errorf("-leads must be at least %d, so that the list has page %d", leadsPerPage*deepPage*2, deepPage)
	}
	if o.Rows < bulkLeads {
		return fmt.Errorf("-rows must be at least %d", bulkLeads)
	}
	return nil
}

// bench is one run.
type bench struct {
	Options
	out io.Writer
	dir string // for temporary files
	layout
}

// layout assigns cores. The side under test has a core of its own.
type layout struct{ test, load, upstream process.Core }

func newLayout(cores int) layout {
	if cores < 2 {
		return layout{process.Any, process.Any, process.Any}
	}
	return layout{test: 0, load: 1, upstream: process.Core(min(2, cores-1))}
}

// Run runs the benchmarks, and writes a table to out and the results to files. When it returns, everything it started has stopped.
func Run(ctx context.Context, o Options, out io.Writer) error {
	dir, err := os.MkdirTemp("", "convoflow-bench-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{Options: o, out: out, dir: dir, layout: newLayout(runtime.NumCPU())}
	took := clock.Stopwatch()
	all := report.Report{At: clock.System{}.Now(), Machine: machine(ctx, o.Commit), Settings: o.Env}
	for _, benchmark := range benchmarks {
		if len(o.Only) > 0 && !slices.Contains(o.Only, benchmark.name) {
			continue
		}
		results, err := benchmark.run(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", benchmark.name, err)
		}
		all.Results = append(all.Results, results...)
	}
	b.printf("")
	all.Table(out)
	file, err := all.Write(o.Results)
	if err != nil {
		return err
	}
	b.printf("\nMeasured in %.0f s; all rounds are in %s. Next: docs/benchmarks.md explains the figures, and\n"+
		"make bench ARGS='-profile' stores CPU profiles that show where the time goes.", took().Seconds(), file)
	return nil
}

func (b *bench) printf(format string, args ...any) { _, _ = fmt.Fprintf(b.out, format+"\n", args...) }

// rounds measures all rounds and returns the result with their median. measure gets whether our side runs first.
func (b *bench) rounds(ctx context.Context, result report.Result, measure func(oursFirst bool) (report.Round, error)) (report.Result, error) {
	var ratios []float64
	for i := range b.Rounds {
		round, err := measure(i%2 == 0)
		if ctx.Err() != nil {
			return result, ctx.Err()
		}
		if err != nil {
			return result, fmt.Errorf("round %d: %w", i+1, err)
		}
		result.Rounds = append(result.Rounds, round)
		ratios = append(ratios, round.Ratio)
		b.printf("  round %d of %d  Convoflow %s  peer %s %s  ratio %.2f", i+1, b.Rounds, report.Number(round.Ours.Value), report.Number(round.Peer.Value), result.Unit, round.Ratio)
	}
	result.Ratio = report.Median(ratios)
	return result, nil
}

// alternate calls both, ours first if oursFirst is set.
func alternate(oursFirst bool, ours, peer func() error) error {
	if !oursFirst {
		ours, peer = peer, ours
	}
	if err := ours(); err != nil {
		return err
	}
	return peer()
}

// subject is a process whose CPU time is measured.
type subject interface {
	CPU() (time.Duration, error)
	Alive() error
}

// part is one of several processes under test.
type part struct {
	name string
	subject
}

// observe runs work and measures it: the CPU time of the subject per request, the share of the core (or of all cores) that was
// busy, and the CPU time of unrelated processes. The value is requests per second.
func observe(s subject, core process.Core, work func() (requests int, took time.Duration, err error)) (report.Measure, error) {
	m, err := observeParts([]part{{subject: s}}, core, work)
	m.Parts = nil
	return m, err
}

// observeParts is observe for several processes: it also returns the CPU time of each of them, and last that of everything else
// that the benchmark runs, which is the load.
func observeParts(parts []part, core process.Core, work func() (requests int, took time.Duration, err error)) (report.Measure, error) {
	before, err := readMeters(parts, core)
	if err != nil {
		return report.Measure{}, err
	}
	watch := clock.Stopwatch()
	requests, took, err := work()
	for _, p := range parts {
		if dead := p.Alive(); dead != nil {
			return report.Measure{}, dead
		}
	}
	if err != nil {
		return report.Measure{}, err
	}
	wall := watch().Seconds()
	after, err := readMeters(parts, core)
	if err != nil {
		return report.Measure{}, err
	}
	cores := 1
	if core == process.Any {
		cores = runtime.NumCPU()
	}
	m := report.Measure{
		Value:  float64(requests) / took.Seconds(),
		Core:   min(1, (after.core-before.core).Seconds()/wall/float64(cores)),
		Others: max(0, (after.machine-before.machine-(after.tree-before.tree)).Seconds()/wall),
	}
	each := func(cost time.Duration) float64 { return float64(cost.Microseconds()) / float64(requests) }
	for i, p := range parts {
		cpu := each(after.parts[i] - before.parts[i])
		m.CPU += cpu
		m.Parts = append(m.Parts, report.Part{Name: p.name, CPU: cpu})
	}
	m.Parts = append(m.Parts, report.Part{Name: "load", CPU: max(0, each(after.tree-before.tree)-m.CPU)})
	return m, nil
}

// meters are CPU times: of each part, of this process with all its children, of a core and of all cores.
type meters struct {
	parts               []time.Duration
	tree, core, machine time.Duration
}

func readMeters(parts []part, core process.Core) (m meters, err error) {
	for _, p := range parts {
		cpu, err := p.CPU()
		if err != nil {
			return m, err
		}
		m.parts = append(m.parts, cpu)
	}
	var errs [3]error
	m.tree, errs[0] = process.OwnTreeCPU()
	m.core, errs[1] = core.Busy()
	m.machine, errs[2] = process.Any.Busy()
	return m, errors.Join(errs[:]...)
}

// machine describes the machine and the versions that the figures depend on.
func machine(ctx context.Context, commit string) map[string]string {
	m := map[string]string{"cores": fmt.Sprint(runtime.NumCPU()), "go": runtime.Version(), "os": runtime.GOOS + "/" + runtime.GOARCH, "commit": commit}
	if info, err := os.Open("/proc/cpuinfo"); err == nil {
		defer func() { _ = info.Close() }()
		for lines := bufio.NewScanner(info); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				m["cpu"] = strings.TrimSpace(value)
				break
			}
		}
	}
	for name, argv := range map[string][]string{"nginx": {"nginx", "-v"}, "kernel": {"uname", "-r"}} {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err == nil {
			m[name] = strings.TrimSpace(string(out))
		}
	}
	return m
}
