// Package fault tests that nothing is lost, doubled or reordered when things break. It runs replicas of each service as processes
// against PostgreSQL and Kafka, with a seeded workload that writes a ledger of every request and its answer. A nemesis injects one
// fault after another; after each, once the platform is quiet, a checker compares the ledger with the databases, the topics, the
// files and the webhooks. It imports no service. The checker is tested on programs whose guarantees are switched off.
package fault

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/test/internal/program"
)

// Flags of the test binary; scripts/fault sets them.
var (
	all     = flag.Bool("fault.all", false, "inject all faults, not only the core")
	only    = flag.String("fault.only", "", "inject the faults whose names contain one of these texts, separated by commas")
	brokers = flag.Int("fault.brokers", 0, "run Apache Kafka with that many brokers; 0 is the embedded broker")
	seed    = flag.Uint64("fault.seed", 1, "of the workload")
	report  = flag.String("fault.report", "", "directory for the ledger and the logs when a check fails")
	clients = flag.Int("fault.clients", 6, "clients of the workload")
)

// programs builds the services for all tests of the binary.
var programs = builder{}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(programs.run(m))
}

// TestFaults injects the faults one after another into a platform under load. After a violation, the next fault gets a new platform,
// because what is broken stays broken.
func TestFaults(t *testing.T) {
	t.Parallel()
	chosen := choose(t)
	progress("%d faults, seed %d, %s", len(chosen), *seed, kafkaName())
	var table strings.Builder
	for done := 0; done < len(chosen); {
		t.Run(fmt.Sprintf("from fault %d", done+1), func(t *testing.T) {
			start := startEmbedded
			if *brokers > 0 {
				start = startApache(*brokers)
			}
			w := newWorld(t, programs.all(t), func(string) int { return 2 }, start)
			n := newNemesis(t, w, !*all && *only == "")
			for done < len(chosen) && !t.Failed() {
				f := chosen[done]
				done++ // also when the fault itself fails the test
				line := n.report(f, fmt.Sprintf("%2d/%d", done, len(chosen)))
				table.WriteString(line + "\n")
			}
			n.noPanic()
		})
	}
	t.Logf("seed %d, %s\n%s", *seed, kafkaName(), table.String())
}

// report injects a fault and returns its line of the summary. It fails the test if an invariant broke.
func (n *nemesis) report(f fault, number string) (line string) {
	began, before := time.Now(), len(n.load.ledger.all())
	found := n.try(f)
	result := "ok"
	if len(found) > 0 {
		result = fmt.Sprintf("FAILED: %d violations", len(found))
	}
	line = fmt.Sprintf("%s  %-40s %6.1f s %5d requests  %s", number, f.name, time.Since(began).Seconds(), len(n.load.ledger.all())-before, result)
	progress("%s", line)
	for _, v := range found {
		n.t.Errorf("%s: %s", f.name, v)
	}
	if len(found) > 0 {
		n.save(f.name)
	}
	return line
}

func (n *nemesis) noPanic() {
	for _, service := range services {
		for _, r := range n.replicas[service] {
			require.NotContains(n.t, r.output(), "panic:", r.program.Name)
		}
	}
}

func newNemesis(t *testing.T, w *world, short bool) *nemesis {
	t.Helper()
	n := &nemesis{world: w, load: newWorkload(t, w, *clients, *seed), short: short, quiet: quiet}
	t.Cleanup(n.load.pause)
	return n
}

// try injects a fault under load and returns the invariants that it broke.
func (n *nemesis) try(f fault) []violation {
	n.found, n.kills = nil, 0
	n.load.begin()
	<-time.After(time.Second)
	f.inject(n)
	n.awaitReady()
	<-time.After(time.Second)
	n.load.pause()
	open := n.settle()
	if f.leaves {
		n.log.leave()
	}
	return append(n.found, check(n.log.look(n.load.ledger, open, n.kills))...)
}

// save writes the ledger and the logs.
func (n *nemesis) save(name string) {
	dir := *report
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "convoflow-fault")
	}
	dir = filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		n.t.Error(err)
		return
	}
	if err := n.load.ledger.save(filepath.Join(dir, "ledger.jsonl")); err != nil {
		n.t.Error(err)
	}
	n.saveLogs(dir)
	progress("The ledger and the logs are in %s", dir)
}

// choose returns the faults that the flags name.
func choose(t *testing.T) []fault {
	t.Helper()
	words := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	chosen := slices.DeleteFunc(faults(), func(f fault) bool {
		switch {
		case f.brokers > *brokers:
			return true
		case len(words) > 0:
			return !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(f.name, strings.TrimSpace(w)) })
		}
		return !f.core && !*all
	})
	require.NotEmpty(t, chosen, "no fault has such a name")
	return chosen
}

func kafkaName() string {
	if *brokers > 0 {
		return fmt.Sprintf("Apache Kafka with %d brokers", *brokers)
	}
	return "the embedded broker"
}

// progress writes a line at once, which a test's own log does not.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// builder builds each program once.
type builder struct {
	dir  string
	mu   sync.Mutex
	made map[string]bool
}

func (b *builder) run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "convoflow-fault-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	b.dir, b.made = dir, map[string]bool{}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// all builds the services as they are, and returns their programs by name.
func (b *builder) all(t testing.TB) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, service := range services {
		found[service] = b.build(t, service, service)
	}
	return found
}

// build builds a service into a file of that name, with the workspace: its parts are compiled once for all.
func (b *builder) build(t testing.TB, service, name string, flags ...string) string {
	t.Helper()
	pkg := "./services/" + service + "/cmd/" + service
	if service == "gateway" {
		pkg = "./gateway/cmd/gateway"
	}
	path := filepath.Join(b.dir, name)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.made[name] {
		require.NoError(t, program.Build(t.Context(), filepath.Join("..", ".."), path, "", pkg, flags...))
		b.made[name] = true
	}
	return path
}
