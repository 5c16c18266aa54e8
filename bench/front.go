package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/convoflow/convoflow/bench/internal/load"
	"github.com/convoflow/convoflow/bench/internal/nginx"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/libs/event"
)

const (
	// connections are enough to keep one core busy. More would only wait.
	connections = 64
)

// call is the response of the upstream, as long as that to GET /calls/{id} for a call with a summary.
const call = `{"id":"019abf00-0000-7000-8000-000000000001","agent_id":"019abf00-0000-7000-8000-000000000002","client_id":"019abf00-0000-7000-8000-000000000003","status":"completed","progress":1,"call_type":"discovery","duration_seconds":38.2,"summary":"The client likes the product and asks for a better offer; the agent gives ten percent and sends the proposal by Friday.","action_items":["Send the proposal by Friday","Schedule the demo"],"sentiment":"positive","intent":"interested","next_step":"Demo next week","created_at":"2026-11-24T09:30:00Z","completed_at":"2026-11-24T09:30:12Z","attempts":1}`

// front is the gateway and nginx with the same upstream: an nginx that responds from memory, or a service in Go.
type front struct {
	environment
	gateway  *service
	nginx    *nginx.Server
	upstream *nginx.Server
	wrk      load.Wrk

	// The same request to each of them.
	toGateway, toNginx, toUpstream load.Target
}

// startFront starts everything and checks that both sides respond correctly, and that the gateway refuses requests without a token.
func (b *bench) startFront(ctx context.Context, service bool) (_ *front, err error) {
	b.printf("  starting the gateway, nginx and their upstream")
	f := &front{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if err := b.load.Confine(); err != nil {
		return nil, err
	}
	f.add(process.Any.Confine)
	dir, err := os.MkdirTemp(b.dir, "front-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	if f.wrk, err = load.NewWrk(dir, connections, b.load); err != nil {
		return nil, err
	}
	if f.upstream, err = nginx.Upstream(ctx, dir, call, b.upstream); err != nil {
		return nil, err
	}
	f.add(f.upstream.Stop)
	behind := f.upstream.URL
	if service { // with net/http, as in the services
		behind, err = f.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Request-ID", r.Header.Get("X-Request-ID")) // the gateway requires it
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, call)
		}))
		if err != nil {
			return nil, err
		}
	}
	if f.nginx, err = nginx.Proxy(ctx, dir, behind, b.test); err != nil {
		return nil, err
	}
	f.add(f.nginx.Stop)
	if err := f.start(); err != nil {
		return nil, err
	}
	if f.gateway, err = f.startGateway(ctx, b, behind); err != nil {
		return nil, err
	}
	text, err := f.issuer.Token(event.NewID())
	if err != nil {
		return nil, err
	}
	const path = "/calls/019abf00-0000-7000-8000-000000000001"
	f.toNginx = load.Target{URL: f.nginx.URL + path, Token: text}
	f.toUpstream = load.Target{URL: f.upstream.URL + path, Token: text}
	f.toGateway = load.Target{URL: f.gateway.url + path, Token: text}
	return f, f.check(ctx)
}

// check waits until both sides respond correctly, and checks that the gateway refuses requests without a token.
func (f *front) check(ctx context.Context) error {
	for _, side := range []struct {
		*process.Process
		load.Target
	}{{f.upstream.Process, f.toUpstream}, {f.nginx.Process, f.toNginx}, {f.gateway.Process, f.toGateway}} {
		err := await(ctx, side.Process, func() error {
			status, body, err := fetch(ctx, side.Target)
			if err == nil && (status != http.StatusOK || string(body) != call) {
				err = fmt.Errorf("%s returned %d: %.300s", side.URL, status, body)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	status, _, err := fetch(ctx, load.Target{URL: f.toGateway.URL})
	if err == nil && status != http.StatusUnauthorized {
		err = fmt.Errorf("the gateway returned %d for a request without a token", status)
	}
	return err
}
