package page

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const readyTimeout = 3 * time.Second // the services give their own dependencies 2 s

// Health reports that the process is alive. It checks no dependency.
func Health(version string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, struct {
			Status  string `json:"status"`
			Service string `json:"service"`
			Version string `json:"version"`
		}{"ok", "convoflow", version})
	})
}

// readyCache is how long a result is cached: the endpoint is public, and each check queries all services and databases.
const readyCache = 250 * time.Millisecond

// Ready reports the readiness of each service by name, and responds 200 only when all are ready. It checks them
// concurrently. The log says why one is not ready.
func Ready(services map[string]run.Ready, tel telemetry.Set) http.Handler {
	var mu sync.Mutex            // one request checks, the others wait for its result
	var age func() time.Duration // of the result, nil before the first
	var status int
	var body readiness
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if age == nil || age() > readyCache {
			status, body = check(context.WithoutCancel(r.Context()), services, tel)
			age = clock.Stopwatch()
		}
		status, body := status, body
		mu.Unlock()
		if status != http.StatusOK {
			w.Header().Set("Retry-After", "2")
		}
		writeJSON(w, status, body)
	})
}

type readiness struct {
	Status   string            `json:"status"`
	Services map[string]string `json:"services"`
	// Warnings are what an operator should do about services that are ready.
	Warnings map[string]run.Warnings `json:"warnings,omitempty"`
}

func check(ctx context.Context, services map[string]run.Ready, tel telemetry.Set) (int, readiness) {
	status, all := http.StatusOK, readiness{"ready", map[string]string{}, map[string]run.Warnings{}}
	for name, err := range checkAll(ctx, services) {
		all.Services[name] = "ready"
		var warnings run.Warnings
		if errors.As(err, &warnings) {
			all.Warnings[name] = warnings
		} else if err != nil {
			status, all.Status, all.Services[name] = http.StatusServiceUnavailable, "unavailable", "unavailable"
			tel.Log.WarnContext(ctx, "a service is not ready", "name", name, "error", err)
		}
	}
	return status, all
}

func checkAll(ctx context.Context, services map[string]run.Ready) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	type result struct {
		name string
		err  error
	}
	results := make(chan result, len(services))
	var all errgroup.Group
	for name, ready := range services {
		all.Go(func() error {
			results <- result{name, ready(ctx)}
			return nil
		})
	}
	_ = all.Wait() // errors are in the results
	close(results)
	errs := map[string]error{}
	for r := range results {
		errs[r.name] = r.err
	}
	return errs
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only if the client has disconnected
}
