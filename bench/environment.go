package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/bench/internal/issuer"
	"github.com/convoflow/convoflow/bench/internal/load"
	"github.com/convoflow/convoflow/bench/internal/postgres"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/sink"
)

const (
	startTimeout = 30 * time.Second
	pollInterval = 50 * time.Millisecond
	untilLimit   = 2 * time.Minute
	// unlimited is a rate limit that is checked and never reached.
	unlimited = "100000000"
)

// cleanup has the steps that stop what a benchmark started.
type cleanup struct{ steps []func() error }

func (c *cleanup) add(step func() error) { c.steps = append(c.steps, step) }

// close runs the steps, the last one first.
func (c *cleanup) close() (err error) {
	for i := len(c.steps) - 1; i >= 0; i-- {
		err = errors.Join(err, c.steps[i]())
	}
	c.steps = nil
	return err
}

// environment has what a service of the platform needs: a broker, a trace collector, and auth's keys. All of them run in this
// process.
type environment struct {
	cleanup
	issuer *issuer.Issuer
	sink   sink.Sink
	url    string // of the issuer and the trace collector
	broker string // address
}

func (e *environment) start() (err error) {
	if e.issuer, err = issuer.New(); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", e.issuer)
	mux.Handle("POST /v1/traces", &e.sink)
	if e.url, err = e.serve(mux); err != nil {
		return err
	}
	// The topic that auth writes and the gateway reads. Services create the topics that are missing.
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, events.AgentsTopic))
	if err != nil {
		return fmt.Errorf("start a broker: %w", err)
	}
	e.add(func() error { broker.Close(); return nil })
	e.broker = broker.ListenAddrs()[0]
	return nil
}

// service is a running service of the platform.
type service struct {
	*process.Process
	url   string
	admin string // address
}

// startService starts the binary of a service with logs and traces on. The service uses the keys of the issuer.
func (e *environment) startService(ctx context.Context, b *bench, name string, core process.Core, settings ...string) (*service, error) {
	addr, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	p, err := process.Start(ctx, process.Program{
		Name: name, Argv: []string{filepath.Join(b.Bin, name)}, Core: core,
		Env: slices.Concat([]string{
			"HTTP_ADDR=" + addr, "ADMIN_ADDR=" + admin, "AUTH_URL=" + e.url, "KAFKA_BROKERS=" + e.broker,
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + e.url, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		}, settings, b.Env),
	})
	if err != nil {
		return nil, err
	}
	e.add(p.Stop)
	return &service{Process: p, url: "http://" + addr, admin: admin}, nil
}

// startGateway starts the gateway. behind is the URL of all its upstream services.
func (e *environment) startGateway(ctx context.Context, b *bench, behind string) (*service, error) {
	cores := "1"
	if b.test == process.Any {
		cores = strconv.Itoa(runtime.NumCPU())
	}
	return e.startService(ctx, b, "gateway", b.test,
		"GOMAXPROCS="+cores, "CALLS_URL="+behind, "CRM_URL="+behind, "NOTIFY_URL="+behind,
		"RATE_LIMIT_LOGIN_PER_MINUTE="+unlimited, "RATE_LIMIT_UPLOAD_PER_MINUTE="+unlimited, "RATE_LIMIT_READ_PER_MINUTE="+unlimited,
		"RATE_LIMIT_WRITE_PER_MINUTE="+unlimited, "RATE_LIMIT_ANALYTICS_PER_MINUTE="+unlimited, "RATE_LIMIT_INBOUND_PER_MINUTE="+unlimited)
}

// ready waits until the service reports that it is ready.
func (s *service) ready(ctx context.Context) error {
	return await(ctx, s.Process, func() error {
		status, body, err := fetch(ctx, load.Target{URL: s.url + "/ready"})
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%s/ready answered %d: %s", s.url, status, body)
		}
		return err
	})
}

// startPostgres starts a PostgreSQL.
func (c *cleanup) startPostgres(ctx context.Context) (*postgres.Server, error) {
	// Not below the benchmark's directory: if this process is root, postgres runs as another user, which may not enter that.
	dir, err := os.MkdirTemp("", "convoflow-bench-postgres-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for postgres: %w", err)
	}
	c.add(func() error { return os.RemoveAll(dir) })
	server, err := postgres.Start(ctx, dir)
	if err != nil {
		return nil, err
	}
	c.add(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
		defer cancel()
		return server.Stop(ctx)
	})
	return server, nil
}

// serve serves a handler on loopback and returns its URL.
func (c *cleanup) serve(handler http.Handler) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: startTimeout}
	go func() { _ = server.Serve(l) }() // returns http.ErrServerClosed
	c.add(server.Close)
	return "http://" + l.Addr().String(), nil
}

// await calls try until it succeeds. It fails after startTimeout or when p has exited.
func await(ctx context.Context, p *process.Process, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		if dead := p.Alive(); dead != nil {
			return dead
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// until asks every so often until the answer is yes, for minutes at most.
func until(ctx context.Context, every time.Duration, ask func(ctx context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, untilLimit)
	defer cancel()
	for {
		yes, err := ask(ctx)
		if yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("what the benchmark waits for did not happen within %s: %w", untilLimit, ctx.Err())
		case <-time.After(every):
		}
	}
}

// fetch sends one GET request.
func fetch(ctx context.Context, t load.Target) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("build the request: %w", err)
	}
	if t.Token != "" {
		request.Header.Set("Authorization", "Bearer "+t.Token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("send the request: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}
