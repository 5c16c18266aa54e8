package bench

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/convoflow/convoflow/bench/internal/load"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/bench/internal/sink"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/pg/pgserver"
)

const (
	accountCount   = 64 // each costs a hash to register
	loginsPerCore  = 8  // at once: two hash, the others are before or after it, or wait
	requestTimeout = 30 * time.Second
)

// auth is the service with the PostgreSQL, broker and trace collector it needs.
type auth struct {
	cleanup
	process  *process.Process
	url      string
	admin    string // address
	accounts []account
	client   *http.Client
}

type account struct{ email, password string }

func (b *bench) startAuth(ctx context.Context) (_ *auth, err error) {
	b.say("  starting PostgreSQL, a broker and auth")
	a := &auth{client: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: accountCount}}}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	database, err := a.startPostgres(ctx)
	if err != nil {
		return nil, err
	}
	broker, err := a.startBroker()
	if err != nil {
		return nil, err
	}
	traces, err := a.serve(&sink.Sink{})
	if err != nil {
		return nil, err
	}
	addr, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	if a.admin, err = process.FreeAddress(); err != nil {
		return nil, err
	}
	a.url = "http://" + addr
	a.process, err = process.Start(ctx, process.Program{
		Name: "auth", Argv: []string{b.Bin + "/auth"}, Core: process.Any,
		Env: append([]string{
			"HTTP_ADDR=" + addr, "ADMIN_ADDR=" + a.admin, "DATABASE_URL=" + database, "KAFKA_BROKERS=" + broker,
			"SECRET_KEY=" + conf.NewSecret(), "OTEL_EXPORTER_OTLP_ENDPOINT=" + traces, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		}, b.Env...),
	})
	if err != nil {
		return nil, err
	}
	a.add(a.process.Stop)
	return a, await(ctx, a.process, func() error {
		status, body, err := ask(ctx, load.Target{URL: a.url + "/ready"})
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("auth answered %d: %s", status, body)
		}
		return err
	})
}

// startPostgres starts a PostgreSQL that writes to the disk as in production, and returns its address.
func (a *auth) startPostgres(ctx context.Context) (databaseURL string, err error) {
	// Not below the directory of the others: postgres is another user where this process is root, and may not enter it.
	dir, err := os.MkdirTemp("", "convoflow-bench-postgres-")
	if err != nil {
		return "", fmt.Errorf("make a directory for postgres: %w", err)
	}
	a.add(func() error { return os.RemoveAll(dir) })
	server, err := pgserver.Start(ctx, pgserver.Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Bin: os.Getenv("POSTGRES_BIN")})
	if err != nil {
		return "", err
	}
	a.add(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startPatience)
		defer cancel()
		return server.Stop(ctx)
	})
	return server.URL("postgres"), nil
}

func (a *auth) register(ctx context.Context) error {
	for range accountCount {
		a.accounts = append(a.accounts, account{strings.ToLower(rand.Text()) + "@agents.example.com", rand.Text()})
	}
	return a.concurrently(func(worker, workers int) error {
		for i := worker; i < len(a.accounts); i += workers {
			body, err := json.Marshal(map[string]string{"email": a.accounts[i].email, "password": a.accounts[i].password, "full_name": "Asha Rao"})
			if err != nil {
				return fmt.Errorf("encode an account: %w", err)
			}
			if _, err := a.post(ctx, "/auth/register", "application/json", string(body), http.StatusCreated); err != nil {
				return err
			}
		}
		return nil
	})
}

// logIn logs in for d. It counts the logins that end between two moments at which as many are under way as at any other.
func (a *auth) logIn(ctx context.Context, d time.Duration) (m report.Measure, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var next, done atomic.Int64
	ended := make(chan error, 1)
	go func() {
		ended <- a.concurrently(func(int, int) error {
			for ctx.Err() == nil {
				err := a.logInOnce(ctx, a.accounts[int(next.Add(1))%len(a.accounts)])
				if err != nil && ctx.Err() == nil {
					stop()
					return err
				}
				done.Add(1)
			}
			return nil
		})
	}()
	pause(ctx, warmUp)
	m, err = observe(a.process, process.Any, func() (int, time.Duration, error) {
		before, watch := done.Load(), clock.Stopwatch()
		pause(ctx, d)
		return int(done.Load() - before), watch(), nil
	})
	stop()
	return m, errors.Join(<-ended, err)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (a *auth) logInOnce(ctx context.Context, who account) error {
	form := url.Values{"username": {who.email}, "password": {who.password}}
	body, err := a.post(ctx, "/auth/login", "application/x-www-form-urlencoded", form.Encode(), http.StatusOK)
	if err != nil {
		return err
	}
	var tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal(body, &tokens); err != nil || tokens.Access == "" || tokens.Refresh == "" {
		return fmt.Errorf("a login was answered without tokens: %w", errors.Join(err, a.process.Alive()))
	}
	return nil
}

// concurrently calls work as often as there are logins at once, and returns the first error.
func (a *auth) concurrently(work func(worker, workers int) error) error {
	workers := loginsPerCore * runtime.NumCPU()
	failed := make(chan error, workers)
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() { failed <- work(worker, workers) })
	}
	group.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *auth) post(ctx context.Context, path, contentType, body string, want int) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+path, strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("build the request: %w", err)
	}
	request.Header.Set("Content-Type", contentType)
	response, err := a.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("send the request: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != want {
		err = fmt.Errorf("POST %s was answered %d: %s", path, response.StatusCode, answer)
	}
	return answer, err
}
