// Package platform runs all of Convoflow in one process: the five unmodified services, and an embedded default for each external
// system that they need. An embedded part implements the real protocol, and is not started if the environment configures the
// real system. It refuses to change a service's behavior: no service can tell whether a part is embedded.
package platform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/convoflow/convoflow/gateway"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/pg/pgserver"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/platform/internal/broker"
	"github.com/convoflow/convoflow/platform/internal/database"
	"github.com/convoflow/convoflow/platform/internal/inbox"
	"github.com/convoflow/convoflow/platform/internal/offline"
	"github.com/convoflow/convoflow/services/auth"
	"github.com/convoflow/convoflow/services/calls"
	"github.com/convoflow/convoflow/services/crm"
	"github.com/convoflow/convoflow/services/notify"
)

var serviceNames = []string{"auth", "calls", "crm", "notify"}

const databaseName = "convoflow" // in the embedded PostgreSQL

// Options of one platform.
type Options struct {
	DataDir  string                                // all data of the platform; created if absent
	Listen   string                                // host:port of the API
	Environ  []string                              // settings, as from os.Environ
	Log      io.Writer                             // the log of all services
	Logging  telemetry.Config                      // log level and format
	Progress func(part string, took time.Duration) // called when a part has started; may be nil
	Traces   net.Listener                          // serves a page of the newest traces; see TracesEnvironment. May be nil
}

// Platform is a started platform. Its API is listening.
type Platform struct {
	group    *run.Group
	tel      telemetry.Set
	options  Options
	embedded embedded
	at       addresses
	admin    map[string]string // admin addresses by service, including the gateway
	inbox    *inbox.Inbox      // nil if webhooks are sent to a real receiver
	roles    bool              // each service has its own database role
}

// Start starts the embedded parts and creates the services. For invalid settings the error is a *conf.Error, and nothing has been
// started. After Start the caller must call Run, which also stops the platform.
func Start(ctx context.Context, o Options) (_ *Platform, err error) {
	p, err := prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.group.Close()
		}
	}()
	public, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s (choose another address with --listen): %w", o.Listen, err)
	}
	p.group.Defer("public address", func() { _ = public.Close() })
	p.at.publicAddress = public.Addr().String()
	if err := p.startEmbedded(ctx); err != nil {
		return nil, err
	}
	if err := p.startServices(ctx, public); err != nil {
		return nil, err
	}
	return p, nil
}

// prepare validates all settings and returns a platform of which nothing is running yet.
func prepare(ctx context.Context, o Options) (_ *Platform, err error) {
	if o.Progress == nil {
		o.Progress = func(string, time.Duration) {}
	}
	if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
		return nil, fmt.Errorf("find the data directory: %w", err)
	}
	e, at := embeddedParts(o.Environ), placeholders(o.DataDir, o.Listen)
	if !e.postgres {
		clear(at.databases) // so that DATABASE_URL itself is checked
	}
	if _, err := load(o.Environ, e, at); err != nil {
		return nil, err
	}
	tel, flush, err := telemetry.New(ctx, "platform", run.Version(), o.Logging, o.Log)
	if err != nil {
		return nil, err
	}
	p := &Platform{group: run.NewGroup(tel), tel: tel, options: o, embedded: e, at: at, admin: map[string]string{}}
	if o.Traces != nil {
		if err := p.serveTraces(o.Traces); err != nil {
			return nil, err
		}
	}
	p.group.Defer("telemetry", flusher(ctx, flush))
	return p, nil
}

// flusher returns a function that flushes the remaining spans.
func flusher(ctx context.Context, flush func(context.Context) error) func() {
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		_ = flush(ctx) // if the collector is unavailable, spans are lost
	}
}

// startEmbedded starts the parts that the environment does not configure. They are stopped last, in reverse order.
func (p *Platform) startEmbedded(ctx context.Context) error {
	if err := os.MkdirAll(p.at.recordings, 0o700); err != nil {
		return fmt.Errorf("create the data directory: %w", err)
	}
	stored, err := openSecrets(p.secretsFile())
	if err != nil {
		return err
	}
	p.at.secretKey, p.at.hookSecret, p.at.brokerSecret = stored.SecretKey, stored.InboxSecret, stored.BrokerPassword
	for _, part := range []struct {
		name  string
		start func(context.Context, secrets) error
	}{
		{"PostgreSQL", p.startPostgres},
		{"Kafka broker", p.startBroker},
		{"offline AI", p.startOffline},
		{"webhook inbox", p.startInbox},
	} {
		took := clock.Stopwatch()
		if err := part.start(ctx, stored); err != nil {
			return err
		}
		p.options.Progress(part.name, took())
	}
	return nil
}

func (p *Platform) startPostgres(ctx context.Context, s secrets) error {
	adminURL := value(p.options.Environ, "DATABASE_URL")
	if p.embedded.postgres {
		server, err := pgserver.Start(ctx, pgserver.Options{Dir: p.postgresDir(), Log: p.tel.Log, Bin: os.Getenv("POSTGRES_BIN")})
		if err != nil {
			return err
		}
		p.group.Defer("postgres", func() {
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), run.StopTimeout)
			defer cancel()
			if err := server.Stop(stopping); err != nil {
				p.tel.Log.ErrorContext(ctx, "PostgreSQL did not stop cleanly", "error", err)
			}
		})
		p.group.Add("postgres", run.Func(func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case <-server.Done():
				return fmt.Errorf("PostgreSQL exited, see its log in %s: %w", p.postgresDir(), server.Err())
			}
		}))
		if err := database.Create(ctx, server.URL("postgres"), databaseName); err != nil {
			return err
		}
		adminURL = server.URL(databaseName)
	}
	urls, err := database.Provision(ctx, adminURL, p.secretKey(s), serviceNames)
	if errors.Is(err, database.ErrNotAdministrator) {
		p.tel.Log.WarnContext(ctx, "the role of DATABASE_URL may not create roles: all services use that role, each with its own schema")
		for _, service := range serviceNames {
			p.at.databases[service] = adminURL
		}
		return nil
	}
	p.at.databases, p.roles = urls, err == nil
	return err
}

// secretKey returns SECRET_KEY, or the generated one if it is not set.
func (p *Platform) secretKey(stored secrets) string {
	if p.embedded.secret {
		return stored.SecretKey
	}
	return value(p.options.Environ, "SECRET_KEY")
}

func (p *Platform) postgresDir() string { return filepath.Join(p.options.DataDir, "postgres") }
func (p *Platform) secretsFile() string { return filepath.Join(p.options.DataDir, secretsName) }

func (p *Platform) startBroker(ctx context.Context, s secrets) error {
	if !p.embedded.kafka {
		return nil
	}
	b, err := broker.Start(ctx, broker.Options{Dir: filepath.Join(p.options.DataDir, "kafka"), Password: s.BrokerPassword, Log: p.tel.Log})
	if err != nil {
		return err
	}
	p.at.brokers = b.Addr()
	if err := os.WriteFile(brokerFile(p.options.DataDir), []byte(b.Addr()+"\n"), 0o600); err != nil {
		return fmt.Errorf("store the address of the broker: %w", err)
	}
	p.group.Defer("broker", func() {
		_ = os.Remove(brokerFile(p.options.DataDir))
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), run.StopTimeout)
		defer cancel()
		if err := b.Close(stopping); err != nil {
			p.tel.Log.WarnContext(ctx, "the broker did not stop cleanly", "error", err)
		}
	})
	return nil
}

func (p *Platform) startOffline(context.Context, secrets) error {
	// Files from before a crash are useless. They are removed only now, because PostgreSQL and the broker have ensured that no
	// other process uses the data directory.
	if err := errors.Join(os.RemoveAll(p.at.temporary), os.MkdirAll(p.at.temporary, 0o700)); err != nil {
		return fmt.Errorf("create a directory for temporary files: %w", err)
	}
	if !p.embedded.transcribe && !p.embedded.chat {
		return nil
	}
	server, err := p.serve("offline AI", offline.New(offline.Config{Log: p.tel.Log, TempDir: p.at.temporary}))
	p.at.offline = "http://" + server + "/v1"
	return err
}

func (p *Platform) startInbox(_ context.Context, s secrets) error {
	if !p.embedded.webhooks {
		return nil
	}
	in, err := inbox.Open(filepath.Join(p.options.DataDir, "inbox.jsonl"), inbox.Secrets{Path: s.InboxToken, Signing: s.InboxSecret, Reader: s.InboxReader}, clock.System{})
	if err != nil {
		return err
	}
	in.SendLeads(inbox.Sender{URL: p.URL() + "/leads/inbound", Secret: cmp.Or(value(p.options.Environ, "PABBLY_INBOUND_SECRET"), s.InboxSecret)})
	p.inbox = in
	p.group.Defer("inbox", in.Close)
	server, err := p.serve("webhook inbox", in.Handler())
	p.at.hook = "http://" + server + in.Path()
	return err
}

// serve adds an HTTP server for an embedded part on a free loopback port, and returns its address.
func (p *Platform) serve(name string, handler http.Handler) (string, error) {
	server, err := run.HTTP(run.HTTPConfig{Addr: "127.0.0.1:0"}, handler)
	if err != nil {
		return "", err
	}
	p.group.Add(name, server)
	p.group.Defer(name, server.Close)
	return server.Addr(), nil
}

// startServices creates the five services like their own main functions, on ports chosen here.
func (p *Platform) startServices(ctx context.Context, public net.Listener) error {
	listeners := map[string]net.Listener{"gateway": public}
	admins := map[string]net.Listener{}
	for _, name := range append(slices.Clone(serviceNames), "gateway") {
		for _, set := range []map[string]net.Listener{listeners, admins} {
			if set[name] != nil {
				continue
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return fmt.Errorf("find a port for %s: %w", name, err)
			}
			p.group.Defer(name, func() { _ = l.Close() })
			set[name] = l
		}
		p.admin[name] = admins[name].Addr().String()
		if name != "gateway" {
			p.at.services[name] = "http://" + listeners[name].Addr().String()
		}
	}
	s, err := load(p.options.Environ, p.embedded, p.at)
	if err != nil {
		return err
	}
	s.gateway.Demo = p.embedded.transcribe || p.embedded.chat
	if p.inbox != nil {
		s.gateway.Mount = map[string]http.Handler{"/inbox": p.inbox.Handler()}
	}
	for _, part := range []struct {
		name  string
		http  *run.HTTPConfig
		admin *run.AdminConfig
		open  func(telemetry.Set) (*run.App, error)
	}{
		{"auth", &s.auth.HTTP, &s.auth.Admin, func(tel telemetry.Set) (*run.App, error) { return auth.New(ctx, s.auth, tel) }},
		{"calls", &s.calls.HTTP, &s.calls.Admin, func(tel telemetry.Set) (*run.App, error) { return calls.New(ctx, s.calls, tel) }},
		{"crm", &s.crm.HTTP, &s.crm.Admin, func(tel telemetry.Set) (*run.App, error) { return crm.New(ctx, s.crm, tel) }},
		{"notify", &s.notify.HTTP, &s.notify.Admin, func(tel telemetry.Set) (*run.App, error) { return notify.New(ctx, s.notify, tel) }},
		{"gateway", &s.gateway.HTTP, &s.gateway.Admin, func(tel telemetry.Set) (*run.App, error) { return gateway.New(ctx, s.gateway, tel) }},
	} {
		part.http.Listener, part.admin.Listener = listeners[part.name], admins[part.name]
		took := clock.Stopwatch()
		tel, flush, err := telemetry.New(ctx, part.name, run.Version(), p.options.Logging, p.options.Log)
		if err != nil {
			return err
		}
		p.group.Defer(part.name+" telemetry", flusher(ctx, flush))
		app, err := part.open(tel)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		p.group.Add(part.name, app)
		p.options.Progress(part.name, took())
	}
	return nil
}

// Run runs the platform until ctx ends, then stops all parts in order.
func (p *Platform) Run(ctx context.Context) error { return p.group.Run(ctx) }

// URL returns the base URL of the API, with the actual port if Options.Listen has port 0.
func (p *Platform) URL() string { return "http://" + p.at.publicAddress }

// AwaitReady returns when GET /ready of the gateway reports that all five services are ready.
func (p *Platform) AwaitReady(ctx context.Context) error {
	client := &http.Client{Timeout: readyTimeout}
	for {
		err := ready(ctx, client, p.URL()+"/ready")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-time.After(readyInterval):
		}
	}
}

const (
	flushTimeout  = 3 * time.Second
	readyTimeout  = 5 * time.Second
	readyInterval = 50 * time.Millisecond
)

func ready(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // a partial body may still name the service
		return fmt.Errorf("%s: %s", res.Status, body)
	}
	return nil
}

// value returns a setting of the environment, or the content of its _FILE. The settings have been validated before.
func value(environ []string, name string) string {
	for _, pair := range environ {
		if v, ok := strings.CutPrefix(pair, name+"="); ok && v != "" {
			return v
		}
		if file, ok := strings.CutPrefix(pair, name+"_FILE="); ok && file != "" {
			if raw, err := os.ReadFile(file); err == nil {
				return strings.TrimRight(string(raw), "\r\n")
			}
		}
	}
	return ""
}
