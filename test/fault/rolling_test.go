package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/test/internal/program"
)

const (
	preStop      = time.Second // in which a balancer stops sending requests to a replica; 5 s in Kubernetes
	minRequests  = 5000
	rollers      = 8
	releasedFile = "../released/commit" // the commit that counts as the previous version
)

// TestEachServiceIsUpgradedAndRolledBackUnderLoad replaces the two replicas of each service one after the other by the new version, and
// then by the previous one again, as Kubernetes does. Old and new versions run side by side, on one database and the same topics, in
// every combination of neighbours. No request may fail. Then each service has one replica, whose restart may only cause 503 with
// Retry-After.
func TestEachServiceIsUpgradedAndRolledBackUnderLoad(t *testing.T) {
	t.Parallel()
	newer := programs.all(t)
	older := programs.released(t)
	// The version of cd874a7 closes idle connections at once when it stops, so a request that is just being sent fails. Remove this
	// when a version that was released does better.
	flawed := older
	w := newWorld(t, older, func(string) int { return 2 }, startEmbedded)
	l := newRolling(t, w)
	if flawed["auth"] != newer["auth"] {
		l.flawed = slices.Collect(maps.Values(flawed))
	}
	for _, version := range []map[string]string{newer, older, newer} {
		for _, service := range services {
			for _, r := range w.replicas[service] {
				l.replace(r, version[service])
			}
		}
	}
	w.poll(startTimeout, "enough requests", func() bool { return l.requests.Load() >= minRequests })
	progress("%d requests, %d failures, and %d that the former version's stop costs", l.requests.Load(), len(l.failures()), l.forgiven.Load())
	require.Empty(t, l.failures(), "of %d requests", l.requests.Load())

	// Alone. The gateway is not restarted: without a second replica nothing would answer.
	for _, service := range backends {
		l.leave(w.replicas[service][1])
	}
	require.Empty(t, l.failures(), "a service may lose one of two replicas")
	l.alone.Store(true)
	for _, service := range backends {
		l.replace(w.replicas[service][0], newer[service])
	}
	l.alone.Store(false)
	require.Empty(t, l.failures(), "with one replica: only 503 with Retry-After; %d of them", l.unavailable.Load())
	require.Positive(t, l.unavailable.Load(), "a check that cannot fail is worthless: nothing was unavailable")
	l.stop()
	require.Empty(t, l.failures())
	require.Less(t, l.forgiven.Load(), int64(50))
	for _, service := range services {
		for _, r := range w.replicas[service] {
			require.NotContains(t, r.output(), "panic:", r.program.Name)
			require.NotContains(t, r.output(), "was moved to the dead-letter topic", "%s: versions understand each other's events", r.program.Name)
		}
	}
}

// rolling is a constant load on every service.
type rolling struct {
	world       *world
	requests    atomic.Int64
	unavailable atomic.Int64
	alone       atomic.Bool // a service has one replica, which restarts
	flawed      []string    // programs that fail requests when they stop
	flaw        atomic.Bool // one of these stops
	forgiven    atomic.Int64
	stop        func()

	mu     sync.Mutex
	failed []string
}

func newRolling(t *testing.T, w *world) *rolling {
	t.Helper()
	l := &rolling{world: w}
	admin := newWorkload(t, w, 1, 1).workers[0] // the first agent is an admin, who may use notify
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	for i := range rollers {
		running.Go(func() { l.run(ctx, i, admin) })
	}
	l.stop = func() { cancel(); running.Wait() }
	t.Cleanup(l.stop)
	return l
}

func (l *rolling) failures() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.failed)
}

// run sends one request after another. Half of the clients keep their connections, as apps do; the others connect each time.
func (l *rolling) run(ctx context.Context, number int, agent *worker) {
	client := &http.Client{Timeout: requestTimeout, Transport: &http.Transport{DisableKeepAlives: number%2 == 1}}
	defer client.CloseIdleConnections()
	for i := number; ctx.Err() == nil; i++ {
		what := []struct {
			method, path string
			body         map[string]any
			status       int
		}{
			{http.MethodGet, "/auth/me", nil, 200},
			{http.MethodGet, "/calls?limit=5", nil, 200},
			{http.MethodPost, "/clients", map[string]any{"name": "Client " + mark()}, 201},
			{http.MethodGet, "/clients?limit=5", nil, 200},
			{http.MethodPost, "/calls", map[string]any{"call_tag": "no_answer"}, 201},
			{http.MethodGet, "/webhooks/deliveries?limit=5", nil, 200},
			{http.MethodGet, "/followups?limit=5", nil, 200},
			{http.MethodPatch, "/auth/me", map[string]any{"full_name": "Agent " + mark()}, 200},
		}[i%8]
		flaw := l.flaw.Load()
		if err := l.request(client, agent.token, what.method, what.path, what.body, what.status); err != nil && (flaw || l.flaw.Load()) {
			l.forgiven.Add(1)
		} else if err != nil {
			l.mu.Lock()
			l.failed = append(l.failed, fmt.Sprintf("%s %s: %v", what.method, what.path, err))
			l.mu.Unlock()
		}
		l.requests.Add(1)
		if l.alone.Load() { // what is refused at once is asked for again at once
			<-time.After(20 * time.Millisecond)
		}
	}
}

func (l *rolling) request(client *http.Client, token, method, path string, body map[string]any, want int) error {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, l.world.url+path, content)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return err
	}
	answer, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	switch {
	case err != nil:
		return err
	case l.alone.Load() && res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != "":
		l.unavailable.Add(1)
	case res.StatusCode != want:
		return fmt.Errorf("%s, Retry-After %q: %s", res.Status, res.Header.Get("Retry-After"), bytes.TrimSpace(answer))
	}
	return nil
}

// leave stops a replica in the order of a pod: the balancer sends no new connections, preStop waits, then it gets SIGTERM.
func (l *rolling) leave(r *replica) {
	t := l.world.t
	t.Helper()
	r.leaving.Store(true)
	<-time.After(preStop)
	l.flaw.Store(slices.Contains(l.flawed, r.program.Argv[0]))
	defer l.flaw.Store(false)
	p := r.process()
	p.Signal(syscall.SIGTERM)
	code, err := p.Wait(stopTimeout)
	require.NoError(t, err)
	require.Zero(t, code, program.Tail(p.Output.String()))
}

// replace restarts a replica with another program, and waits until it is ready.
func (l *rolling) replace(r *replica, binary string) {
	t := l.world.t
	t.Helper()
	l.leave(r)
	r.ready.Store(false)
	r.program.Argv = []string{binary}
	require.NoError(t, r.start())
	r.leaving.Store(false)
	l.world.poll(startTimeout, r.program.Name+" is ready", r.ready.Load)
}

// released builds the services of the version before. Without the repository's history, as in an exported source tree, these are the
// programs of now: then the versions are not compared, but everything else is.
func (b *builder) released(t testing.TB) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(releasedFile)
	require.NoError(t, err)
	commit := strings.TrimSpace(string(raw))
	source := filepath.Join(b.dir, "released")
	require.NoError(t, os.MkdirAll(source, 0o700))
	extract := exec.CommandContext(t.Context(), "sh", "-c", `git -C ../.. archive "$0" | tar -x -C "$1"`, commit, source)
	if out, err := extract.CombinedOutput(); err != nil || !exists(filepath.Join(source, "go.work")) {
		t.Logf("the history has no %s (%s): upgrades are tried with one version; git fetch --unshallow", commit, bytes.TrimSpace(out))
		return b.all(t)
	}
	found := map[string]string{}
	for _, service := range services {
		pkg := "./services/" + service + "/cmd/" + service
		if service == "gateway" {
			pkg = "./gateway/cmd/gateway"
		}
		found[service] = filepath.Join(b.dir, service+"-released")
		require.NoError(t, program.Build(t.Context(), source, found[service], "", pkg))
	}
	return found
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
