package fault

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/pg/pgserver"
	"github.com/convoflow/convoflow/test/fake/openai"
	"github.com/convoflow/convoflow/test/fake/pabbly"
	"github.com/convoflow/convoflow/test/internal/program"
)

const (
	startTimeout = 3 * time.Minute // of anything, on a busy machine
	stopTimeout  = 2 * time.Minute
	pollInterval = 50 * time.Millisecond

	transcribeWorkers = 4 // of each replica of calls
)

// The services, in the order in which they start.
var (
	backends = []string{"auth", "calls", "crm", "notify"} // those with a database
	services = append(slices.Clone(backends), "gateway")
)

// hookSecret signs the webhooks.
const hookSecret = "whsec_ZmF1bHQtdGVzdHMtc2lnbi13aXRoLXRoaXMtMTI="

// world is the platform under test: replicas of each service behind a balancer, each service with its own database role behind
// a proxy, PostgreSQL and Kafka, and the fakes of OpenAI and Pabbly. Faults act on its parts.
type world struct {
	t        testing.TB
	dir      string
	ports    *program.Ports
	replicas map[string][]*replica // by service
	database map[string]*proxy     // by service
	postgres *postgres
	kafka    broker
	openai   *openai.Server
	pabbly   *pabbly.Server
	url      string // of the gateway
	log      *observer
}

// replica is one process of a service, running or not.
type replica struct {
	service string
	number  int
	address string
	program program.Program
	ready   atomic.Bool // as its balancer sees it
	leaving atomic.Bool // its balancer sends it nothing any more

	mu   sync.Mutex
	runs []*program.Process
}

func (r *replica) process() *program.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.runs) == 0 || r.runs[len(r.runs)-1].Ended() {
		return nil
	}
	return r.runs[len(r.runs)-1]
}

func (r *replica) start() error {
	p, err := program.Start(r.program)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs = append(r.runs, p)
	return nil
}

func (r *replica) output() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all strings.Builder
	for _, p := range r.runs {
		all.WriteString(p.Output.String())
	}
	return all.String()
}

// newWorld starts a platform. binaries has the program of each service, replicas returns how many of it there are.
func newWorld(t testing.TB, binaries map[string]string, replicas func(service string) int, kafka func(testing.TB, string, *program.Ports) broker) *world {
	t.Helper()
	w := &world{
		t: t, dir: t.TempDir(), ports: program.NewPorts(), replicas: map[string][]*replica{}, database: map[string]*proxy{},
		openai: openai.Start(t), pabbly: pabbly.Start(t, hookSecret),
	}
	w.postgres = startPostgres(t, filepath.Join(w.dir, "postgres"))
	w.kafka = kafka(t, filepath.Join(w.dir, "kafka"), w.ports)
	shared := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"),
		"KAFKA_BROKERS=" + strings.Join(w.kafka.addresses(), ","), "KAFKA_PARTITIONS=4", "SECRET_KEY=" + conf.NewSecret(),
		"STORAGE_URL=file://" + filepath.ToSlash(w.recordings()), "OPENAI_BASE_URL=" + w.openai.URL(), "OPENAI_API_KEY=" + openai.Key,
		"TRANSCRIBE_RETRY_WAITS=1s,2s,4s,8s,8s", "TRANSCRIBE_WORKERS=" + strconv.Itoa(transcribeWorkers),
		"PABBLY_WEBHOOK_URL=" + w.pabbly.URL(), "PABBLY_WEBHOOK_SECRET=" + hookSecret, "WEBHOOK_ALLOW_PRIVATE_CIDRS=127.0.0.0/8",
		"RATE_LIMIT_LOGIN_PER_MINUTE=0", "RATE_LIMIT_UPLOAD_PER_MINUTE=0", "RATE_LIMIT_READ_PER_MINUTE=0",
		"RATE_LIMIT_WRITE_PER_MINUTE=0", "RATE_LIMIT_ANALYTICS_PER_MINUTE=0", "RATE_LIMIT_INBOUND_PER_MINUTE=0",
	}
	addresses := map[string]string{}
	for _, name := range services {
		addresses[name] = w.free()
		shared = append(shared, strings.ToUpper(name)+"_URL=http://"+addresses[name])
	}
	w.url = "http://" + addresses["gateway"]
	shared = append(shared, "PUBLIC_URL="+w.url)
	for _, name := range services {
		environ := slices.Clone(shared)
		if name != "gateway" {
			w.database[name] = startProxy(t, w.postgres.address)
			environ = append(environ, "DATABASE_URL="+w.postgres.role(t, name, w.database[name].address))
		}
		for i := range replicas(name) {
			address := w.free()
			w.replicas[name] = append(w.replicas[name], &replica{
				service: name, number: i + 1, address: address,
				program: program.Program{
					Name: fmt.Sprintf("%s/%d", name, i+1), Argv: []string{binaries[name]},
					Environ: append(slices.Clone(environ), "HTTP_ADDR="+address, "ADMIN_ADDR="+w.free()),
				},
			})
		}
	}
	t.Cleanup(w.stop)
	for _, name := range services {
		startBalancer(t, addresses[name], w.replicas[name])
	}
	w.startAll()
	w.awaitReady()
	w.log = observe(t, w)
	return w
}

func (w *world) recordings() string { return filepath.Join(w.dir, "recordings") }

func (w *world) free() string {
	w.t.Helper()
	address, err := w.ports.Free()
	require.NoError(w.t, err)
	return address
}

// startAll starts the replicas that do not run.
func (w *world) startAll() {
	w.t.Helper()
	for _, name := range services {
		w.start(name)
	}
}

// start starts the replicas of a service that do not run.
func (w *world) start(name string) {
	w.t.Helper()
	for _, r := range w.replicas[name] {
		if r.process() == nil {
			require.NoError(w.t, r.start())
		}
	}
}

// kill is kill -9 of all replicas of a service.
func (w *world) kill(name string) {
	for _, r := range w.replicas[name] {
		if p := r.process(); p != nil {
			p.Kill()
		}
	}
}

// awaitReady waits until every replica is ready.
func (w *world) awaitReady() {
	w.t.Helper()
	w.poll(startTimeout, "every replica is ready", func() bool {
		for _, name := range services {
			for _, r := range w.replicas[name] {
				if r.process() == nil {
					w.t.Fatalf("%s ended:\n%s", r.program.Name, program.Tail(r.output()))
				}
				if !r.ready.Load() {
					return false
				}
			}
		}
		return true
	})
}

// poll waits until done returns true, and fails the test after d.
func (w *world) poll(d time.Duration, what string, done func() bool) {
	w.t.Helper()
	if !within(d, done) {
		w.t.Fatalf("not within %s: %s\n%s", d, what, w.tails())
	}
}

// within waits until done returns true, and reports whether it did so within d.
func within(d time.Duration, done func() bool) bool {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			return false
		}
	}
	return true
}

// tails returns the ends of all logs.
func (w *world) tails() string {
	var all strings.Builder
	for _, name := range services {
		for _, r := range w.replicas[name] {
			fmt.Fprintf(&all, "%s:\n%s\n", r.program.Name, program.Tail(r.output()))
		}
	}
	return all.String()
}

// saveLogs writes the logs of all replicas into a directory.
func (w *world) saveLogs(dir string) {
	for _, name := range services {
		for _, r := range w.replicas[name] {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d.log", r.service, r.number)), []byte(r.output()), 0o600); err != nil {
				w.t.Log(err)
			}
		}
	}
}

func (w *world) stop() {
	for _, name := range slices.Backward(services) {
		for _, r := range w.replicas[name] {
			if p := r.process(); p != nil {
				p.Signal(syscall.SIGCONT)
				p.Signal(syscall.SIGTERM)
			}
		}
	}
	for _, name := range services {
		for _, r := range w.replicas[name] {
			if p := r.process(); p != nil {
				if _, err := p.Wait(stopTimeout); err != nil {
					w.t.Error(err)
				}
			}
		}
	}
}

// postgres is a PostgreSQL that is restarted on the same data and port.
type postgres struct {
	options pgserver.Options
	mu      sync.Mutex
	server  *pgserver.Server
}

const databaseName = "convoflow"

// startPostgres starts a durable PostgreSQL: a fast one loses acknowledged writes in a crash.
func startPostgres(t testing.TB, dir string) *postgres {
	t.Helper()
	p := &postgres{options: pgserver.Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Bin: os.Getenv("POSTGRES_BIN")}}
	p.start(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stopTimeout)
		defer cancel()
		if err := p.server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(p.server.URL("postgres"))
	require.NoError(t, err)
	_, err = fmt.Sscan(u.Port(), &p.options.Port)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), p.server.URL("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), "create database "+databaseName)
	require.NoError(t, err)
	return p
}

func (p *postgres) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	server, err := pgserver.Start(ctx, p.options)
	require.NoError(t, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = server
}

// restart stops the server, cleanly or as in a crash, and starts it again.
func (p *postgres) restart(t testing.TB, crash bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stopTimeout)
	defer cancel()
	if crash {
		cancel() // an immediate shutdown, which is an error for Stop; the next start recovers from the log
	}
	_ = p.server.Stop(ctx)
	p.start(t)
}

func (p *postgres) address() string {
	u, _ := url.Parse(p.url())
	return u.Host
}

// url returns the superuser's connection string.
func (p *postgres) url() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server.URL(databaseName)
}

// role creates the role and the schema of a service, and returns the connection string through its proxy.
func (p *postgres) role(t testing.TB, name, proxy string) string {
	t.Helper()
	p.exec(t, fmt.Sprintf("create role %[1]s login password '%[1]s'", name), fmt.Sprintf("create schema %[1]s authorization %[1]s", name))
	return fmt.Sprintf("postgres://%[1]s:%[1]s@%[2]s/%[3]s?sslmode=disable", name, proxy, databaseName)
}

// exec runs statements as the superuser, each in a transaction of its own. It retries while the server restarts.
func (p *postgres) exec(t testing.TB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		var last error
		if !within(startTimeout, func() bool {
			conn, err := pgx.Connect(t.Context(), p.url())
			if last = err; err != nil {
				return false
			}
			defer func() { _ = conn.Close(t.Context()) }()
			_, last = conn.Exec(t.Context(), s)
			return last == nil
		}) {
			t.Fatalf("%s: %v", s, last)
		}
	}
}

// pool returns connections of the superuser, past the proxies.
func (p *postgres) pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), p.url())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}
