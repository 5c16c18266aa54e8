package bench

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
)

const (
	accountCount   = 64 // registering one computes a hash
	loginsPerCore  = 8  // concurrent: two compute hashes, the others wait or do the rest of a login
	requestTimeout = 30 * time.Second
)

// auth is the service with its PostgreSQL, broker and trace collector.
type auth struct {
	environment
	service  *service
	accounts []account
	client   *http.Client
}

type account struct{ email, password string }

func (b *bench) startAuth(ctx context.Context) (_ *auth, err error) {
	b.printf("  starting PostgreSQL, a broker and auth")
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
	if err := a.start(); err != nil {
		return nil, err
	}
	if a.service, err = a.startService(ctx, b, "auth", process.Any, "DATABASE_URL="+database.URL(), "SECRET_KEY="+conf.NewSecret(), "RATE_LIMIT_REGISTRATIONS_PER_HOUR=0"); err != nil {
		return nil, err
	}
	return a, a.service.ready(ctx)
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

// logIn logs in for d after a warm-up. It counts the logins that end within d; some began before, and as many end after.
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
	m, err = observe(a.service, process.Any, func() (int, time.Duration, error) {
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
		return fmt.Errorf("the response to a login has no tokens: %w", errors.Join(err, a.service.Alive()))
	}
	return nil
}

// concurrently calls work once per concurrent login, and returns the first error.
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
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.service.url+path, strings.NewReader(body))
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
		err = fmt.Errorf("POST %s returned %d: %s", path, response.StatusCode, answer)
	}
	return answer, err
}
