package page

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const readyTimeout = 3 * time.Second // the services give their own dependencies 2 s

// Health says that the process is alive, and nothing about what it depends on.
func Health(version string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, struct {
			Status  string `json:"status"`
			Service string `json:"service"`
			Version string `json:"version"`
		}{"ok", "convoflow", version})
	})
}

// readyFor is for how long an answer is good: anybody may ask, and each time all services and their databases are asked.
const readyFor = 250 * time.Millisecond

// Ready says whether the whole platform works: each service by its name is asked at the same time, and it is 200 only
// when all of them are ready. Why one is not is in the log.
func Ready(services map[string]run.Ready, tel telemetry.Set) http.Handler {
	var mu sync.Mutex // one asks, the others wait for what it hears
	var asked time.Time
	var status int
	var body readiness
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if now := (clock.System{}).Now(); now.Sub(asked) > readyFor {
			status, body = look(context.WithoutCancel(r.Context()), services, tel)
			asked = clock.System{}.Now()
		}
		status, body := status, body
		mu.Unlock()
		if status != http.StatusOK {
			w.Header().Set("Retry-After", "2")
		}
		answer(w, status, body)
	})
}

type readiness struct {
	Status   string            `json:"status"`
	Services map[string]string `json:"services"`
}

func look(ctx context.Context, services map[string]run.Ready, tel telemetry.Set) (int, readiness) {
	status, all := http.StatusOK, readiness{"ready", map[string]string{}}
	for name, err := range ask(ctx, services) {
		all.Services[name] = "ready"
		if err != nil {
			status, all.Status, all.Services[name] = http.StatusServiceUnavailable, "unavailable", "unavailable"
			tel.Log.WarnContext(ctx, "a service is not ready", "name", name, "error", err)
		}
	}
	return status, all
}

func ask(ctx context.Context, services map[string]run.Ready) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	type reply struct {
		name string
		err  error
	}
	replies := make(chan reply, len(services))
	var all errgroup.Group
	for name, ready := range services {
		all.Go(func() error {
			replies <- reply{name, ready(ctx)}
			return nil
		})
	}
	_ = all.Wait() // what went wrong is in the replies
	close(replies)
	errs := map[string]error{}
	for r := range replies {
		errs[r.name] = r.err
	}
	return errs
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone when this does not work
}
