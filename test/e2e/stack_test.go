package e2e

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/test/fake/openai"
	"github.com/convoflow/convoflow/test/fake/otlp"
	"github.com/convoflow/convoflow/test/fake/pabbly"
	"github.com/convoflow/convoflow/test/internal/program"
)

const (
	// startTimeout is how long a stack may take to become ready. A new one creates a PostgreSQL cluster, and the tests run in
	// parallel, possibly on a busy machine.
	startTimeout = 5 * time.Minute
	// maxStarting is how many stacks start at the same time: a start is mostly CPU time, and more of them take as long together.
	maxStarting = 2
)

// starting has an element for each stack that is starting.
var starting = make(chan struct{}, maxStarting)

// hookSecret signs the webhooks of every stack.
const hookSecret = "whsec_ZTJlLXRlc3RzLXNpZ24td2l0aC10aGlzLTEyMw=="

// fakes are the external systems of a stack.
type fakes struct {
	openai *openai.Server
	pabbly *pabbly.Server
	otlp   *otlp.Server
}

func startFakes(t testing.TB) fakes {
	return fakes{openai: openai.Start(t), pabbly: pabbly.Start(t, hookSecret), otlp: otlp.Start(t)}
}

func (f fakes) settings() []string {
	return []string{
		"OPENAI_BASE_URL=" + f.openai.URL(), "OPENAI_API_KEY=" + openai.Key,
		"PABBLY_WEBHOOK_URL=" + f.pabbly.URL(), "PABBLY_WEBHOOK_SECRET=" + hookSecret, "WEBHOOK_ALLOW_PRIVATE_CIDRS=127.0.0.0/8",
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + f.otlp.URL(), "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
	}
}

// stack is one Convoflow, in either form, with its external systems. Tests use it through HTTP at the gateway.
type stack struct {
	fakes
	t          testing.TB // that uses it now, and fails if it does not work
	url        string     // of the gateway
	dir        string     // of all its data
	recordings string     // a directory
	units      []*unit
	chromium   context.Context // of the tests in browsers, nil for others
}

// unit is one program of a stack, running or not.
type unit struct {
	name    string
	argv    []string
	environ []string
	url     string // of its own API
	admin   string // address, "" where the program chooses it
	runs    []*process
}

func (u *unit) running() *process {
	if len(u.runs) == 0 || u.runs[len(u.runs)-1].Ended() {
		return nil
	}
	return u.runs[len(u.runs)-1]
}

// newPlatform returns a stack of one process with everything embedded except what settings configure and, with a real Kafka
// (make test-kafka), the broker.
func newPlatform(t testing.TB, f fakes, race bool, settings ...string) *stack {
	t.Helper()
	if bustest.Real() {
		settings = append(slices.Clone(settings), "KAFKA_BROKERS="+strings.Join(bustest.Broker(t), ","))
	}
	s := &stack{fakes: f, t: t, dir: filepath.Join(t.TempDir(), "data")}
	address := freeAddress(t)
	s.url, s.recordings = "http://"+address, filepath.Join(s.dir, "recordings")
	s.units = []*unit{{
		name: "platform", environ: environ(settings...), url: s.url,
		argv: []string{built.platform(t, race), "up", "--data-dir", s.dir, "--listen", address},
	}}
	t.Cleanup(s.cleanUp)
	return s
}

// newServices returns a stack of five processes with a PostgreSQL and a broker.
func newServices(t testing.TB, f fakes, settings ...string) *stack {
	t.Helper()
	s := &stack{fakes: f, t: t, dir: t.TempDir()}
	s.recordings = filepath.Join(s.dir, "recordings")
	shared := append(slices.Clone(settings),
		"DATABASE_URL="+pgtest.Database(t), "KAFKA_BROKERS="+strings.Join(bustest.Broker(t), ","),
		"SECRET_KEY="+conf.NewSecret(), "STORAGE_URL=file://"+filepath.ToSlash(s.recordings))
	names := []string{"auth", "calls", "crm", "notify", "gateway"}
	addresses := map[string]string{}
	for _, name := range names {
		addresses[name] = freeAddress(t)
		shared = append(shared, strings.ToUpper(name)+"_URL=http://"+addresses[name])
	}
	shared = append(shared, "PUBLIC_URL=http://"+addresses["gateway"])
	for _, name := range names {
		admin := freeAddress(t)
		s.units = append(s.units, &unit{
			name: name, argv: []string{built.service(t, name)}, url: "http://" + addresses[name], admin: admin,
			environ: environ(append(slices.Clone(shared), "HTTP_ADDR="+addresses[name], "ADMIN_ADDR="+admin)...),
		})
	}
	s.url = "http://" + addresses["gateway"]
	t.Cleanup(s.cleanUp)
	return s
}

// environ returns the environment of a program: what it needs to run at all, and settings, without the developer's own environment.
func environ(settings ...string) []string {
	var out []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "POSTGRES_BIN"} {
		if value := os.Getenv(name); value != "" {
			out = append(out, name+"="+value)
		}
	}
	out = append(out, unlimited...)
	return append(out, settings...)
}

// unlimited disables the rate limits; the tests of the limits set their own.
var unlimited = []string{
	"RATE_LIMIT_LOGIN_PER_MINUTE=0", "RATE_LIMIT_UPLOAD_PER_MINUTE=0", "RATE_LIMIT_READ_PER_MINUTE=0", "RATE_LIMIT_WRITE_PER_MINUTE=0", "RATE_LIMIT_ANALYTICS_PER_MINUTE=0", "RATE_LIMIT_INBOUND_PER_MINUTE=0",
	"RATE_LIMIT_REGISTRATIONS_PER_HOUR=0",
}

// ports are those of this test run.
var ports = program.NewPorts()

// freeAddress returns an address on which nothing listens. No two calls return the same one.
func freeAddress(t testing.TB) string {
	t.Helper()
	address, err := ports.Free()
	require.NoError(t, err)
	return address
}

// start starts the programs that are not running and returns once the gateway reports that everything is ready, with the time
// that took.
func (s *stack) start() time.Duration {
	s.t.Helper()
	starting <- struct{}{}
	defer func() { <-starting }()
	took := clock.Stopwatch()
	for _, u := range s.units {
		if u.running() == nil {
			u.runs = append(u.runs, launch(s.t, u.name, u.argv, u.environ))
		}
	}
	poll(s.t, startTimeout, "ready", func() bool {
		for _, u := range s.units {
			if u.running() == nil {
				s.t.Fatalf("%s ended during the start:\n%s", u.name, program.Tail(u.runs[len(u.runs)-1].Output.String()))
			}
		}
		return s.isReady()
	})
	return took()
}

func (s *stack) isReady() bool {
	response, err := http.Get(s.url + "/ready")
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// launchOnly starts the first program and does not wait for it.
func (s *stack) launchOnly() *process {
	s.t.Helper()
	u := s.units[0]
	u.runs = append(u.runs, launch(s.t, u.name, u.argv, u.environ))
	return u.running()
}

// kill is kill -9 of the programs of that name, or of all.
func (s *stack) kill(names ...string) {
	for _, u := range s.units {
		if p := u.running(); p != nil && (len(names) == 0 || slices.Contains(names, u.name)) {
			p.Kill()
		}
	}
}

// stop stops every program, the gateway first, and requires that each exits without an error.
func (s *stack) stop() {
	s.t.Helper()
	for _, u := range slices.Backward(s.units) {
		if p := u.running(); p != nil {
			assert.Zero(s.t, p.stop(s.t, syscall.SIGTERM), "exit code of %s", u.name)
		}
	}
}

// pid returns the process id of the first program.
func (s *stack) pid() int { return s.units[0].running().PID() }

// log returns everything that the programs have logged since the stack was created.
func (s *stack) log() string {
	var all strings.Builder
	for _, u := range s.units {
		for _, p := range u.runs {
			all.WriteString(p.Output.String())
		}
	}
	file, err := os.ReadFile(filepath.Join(s.dir, "convoflow.log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Error(err)
	}
	all.Write(file)
	return all.String()
}

// metrics returns the metrics of all admin ports.
func (s *stack) metrics() string { return s.admin("/metrics") }

// profiles returns what the profiles of all processes show as text, and the settings.
func (s *stack) profiles() string {
	return s.admin("/debug/pprof/goroutine?debug=2") + s.admin("/debug/pprof/heap?debug=1") + s.admin("/config")
}

// admin returns a page of all admin ports.
func (s *stack) admin(path string) string {
	s.t.Helper()
	var ports []string
	for _, u := range s.units {
		if u.admin != "" {
			ports = append(ports, "http://"+u.admin)
			continue
		}
		for _, found := range regexp.MustCompile(`(http://\S+)/metrics`).FindAllStringSubmatch(u.running().Output.String(), -1) {
			ports = append(ports, found[1])
		}
	}
	require.Len(s.t, ports, 5, "one admin port per service")
	var all strings.Builder
	for _, port := range ports {
		all.Write(get(s.t, port+path))
	}
	return all.String()
}

// files returns the stored recordings, and any other files in their directory.
func (s *stack) files() []string {
	s.t.Helper()
	var files []string
	err := filepath.WalkDir(s.recordings, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil // removed meanwhile, or not made yet
		}
		return err
	})
	require.NoError(s.t, err)
	return files
}

// in returns the stack for a subtest. The programs belong to the test that created the stack.
func (s *stack) in(t testing.TB) *stack {
	here := *s
	here.t = t
	return &here
}

// cleanUp stops all running programs, requires that no process remains, and shows the log of a failed test.
func (s *stack) cleanUp() {
	s.stop()
	poll(s.t, stopTimeout, "no process is left", func() bool { return len(processesOf(s.t, s.dir)) == 0 })
	if s.t.Failed() {
		s.t.Logf("the end of the log:\n%s", program.Tail(s.log()))
	}
}
