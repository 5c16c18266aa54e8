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
	startPatience = 30 * time.Second
	pollInterval  = 50 * time.Millisecond
	// unlimited is a rate limit that counts and never refuses.
	unlimited = "100000000"
)

// cleanup is what has to end after a benchmark.
type cleanup struct{ steps []func() error }

func (c *cleanup) add(step func() error) { c.steps = append(c.steps, step) }

// close ends everything, the last first.
func (c *cleanup) close() (err error) {
	for i := len(c.steps) - 1; i >= 0; i-- {
		err = errors.Join(err, c.steps[i]())
	}
	c.steps = nil
	return err
}

// outside is what a service of the platform needs around it: a broker and a trace collector, and auth's keys unless it is auth.
// All of it runs in this process.
type outside struct {
	cleanup
	issuer *issuer.Issuer
	sink   sink.Sink
	url    string // of the issuer and the trace collector
	broker string // address
}

func (o *outside) start() (err error) {
	if o.issuer, err = issuer.New(); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", o.issuer)
	mux.Handle("POST /v1/traces", &o.sink)
	if o.url, err = o.serve(mux); err != nil {
		return err
	}
	// The topics that auth writes and the gateway reads; a service creates those that are missing.
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, events.AgentsTopic))
	if err != nil {
		return fmt.Errorf("start a broker: %w", err)
	}
	o.add(func() error { broker.Close(); return nil })
	o.broker = broker.ListenAddrs()[0]
	return nil
}

// service is a running service of the platform.
type service struct {
	*process.Process
	url   string
	admin string // address
}

// startService starts the binary of a service with everything on: its traces and its log are taken, and it knows the keys of
// the issuer.
func (o *outside) startService(ctx context.Context, b *bench, name string, core process.Core, settings ...string) (*service, error) {
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
			"HTTP_ADDR=" + addr, "ADMIN_ADDR=" + admin, "AUTH_URL=" + o.url, "KAFKA_BROKERS=" + o.broker,
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + o.url, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		}, settings, b.Env),
	})
	if err != nil {
		return nil, err
	}
	o.add(p.Stop)
	return &service{Process: p, url: "http://" + addr, admin: admin}, nil
}

// startGateway starts the gateway before a service that answers everything.
func (o *outside) startGateway(ctx context.Context, b *bench, behind string) (*service, error) {
	cores := "1"
	if b.test == process.Any {
		cores = strconv.Itoa(runtime.NumCPU())
	}
	return o.startService(ctx, b, "gateway", b.test,
		"GOMAXPROCS="+cores, "CALLS_URL="+behind, "CRM_URL="+behind, "NOTIFY_URL="+behind,
		"RATE_LIMIT_LOGIN_PER_MINUTE="+unlimited, "RATE_LIMIT_UPLOAD_PER_MINUTE="+unlimited, "RATE_LIMIT_READ_PER_MINUTE="+unlimited,
		"RATE_LIMIT_WRITE_PER_MINUTE="+unlimited, "RATE_LIMIT_ANALYTICS_PER_MINUTE="+unlimited)
}

// ready waits until a service says that it can do its work.
func (s *service) ready(ctx context.Context) error {
	return await(ctx, s.Process, func() error {
		status, body, err := ask(ctx, load.Target{URL: s.url + "/ready"})
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%s/ready answered %d: %s", s.url, status, body)
		}
		return err
	})
}

// startPostgres starts a PostgreSQL.
func (c *cleanup) startPostgres(ctx context.Context) (*postgres.Server, error) {
	// Not below the directory of the others: postgres is another user where this process is root, and may not enter it.
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
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startPatience)
		defer cancel()
		return server.Stop(ctx)
	})
	return server, nil
}

// serve serves handler on loopback and returns the URL.
func (c *cleanup) serve(handler http.Handler) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: startPatience}
	go func() { _ = server.Serve(l) }() // ends with an error that says that it was closed
	c.add(server.Close)
	return "http://" + l.Addr().String(), nil
}

// await tries until it works, and gives up after startPatience or when p has ended.
func await(ctx context.Context, p *process.Process, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
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

// ask sends a GET request once.
func ask(ctx context.Context, t load.Target) (status int, body []byte, err error) {
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
