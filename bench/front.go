package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/convoflow/convoflow/bench/internal/load"
	"github.com/convoflow/convoflow/bench/internal/nginx"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/sink"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
)

const (
	// connections are as many as keep one core busy; more of them only wait.
	connections = 64
	// unlimited is a rate limit that counts and never refuses.
	unlimited = "100000000"
)

// call is the answer of the upstream, as long as that to GET /calls/{id} of a call with a summary.
const call = `{"id":"019abf00-0000-7000-8000-000000000001","agent_id":"019abf00-0000-7000-8000-000000000002","client_id":"019abf00-0000-7000-8000-000000000003","status":"completed","progress":1,"call_type":"discovery","duration_seconds":38.2,"summary":"The client likes the product and asks for a better offer; the agent gives ten percent and sends the proposal by Friday.","action_items":["Send the proposal by Friday","Schedule the demo"],"sentiment":"positive","intent":"interested","next_step":"Demo next week","created_at":"2026-11-24T09:30:00Z","completed_at":"2026-11-24T09:30:12Z","attempts":1}`

// front is the gateway and nginx before the same upstream: nginx with an answer in memory, or a service in Go.
type front struct {
	cleanup
	gateway  *process.Process
	nginx    *nginx.Server
	upstream *nginx.Server
	sink     sink.Sink
	wrk      load.Wrk
	admin    string // the gateway's admin address

	// The same request, to each of them.
	toGateway, toNginx, toUpstream load.Target
}

// startFront starts all of it and makes sure that both sides give the right answer, and the gateway none without a token.
func (b *bench) startFront(ctx context.Context, service bool) (_ *front, err error) {
	b.say("  starting the gateway, nginx and their upstream")
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
	if service { // as the services do, with net/http
		behind, err = f.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
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
	text, err := f.startGateway(ctx, b, behind)
	if err != nil {
		return nil, err
	}
	const path = "/calls/019abf00-0000-7000-8000-000000000001"
	f.toNginx = load.Target{URL: f.nginx.URL + path, Token: text}
	f.toUpstream = load.Target{URL: f.upstream.URL + path, Token: text}
	f.toGateway.URL += path
	f.toGateway.Token = text
	return f, f.check(ctx)
}

// startGateway starts the gateway with everything on and returns a token that it takes. This process is its auth, its Kafka
// and its trace collector.
func (f *front) startGateway(ctx context.Context, b *bench, behind string) (text string, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make a signing key: %w", err)
	}
	outside, err := f.outside(token.JWKS{Keys: []token.JWK{token.PublicJWK("bench", public)}})
	if err != nil {
		return "", err
	}
	own, err := f.serve(outside)
	if err != nil {
		return "", err
	}
	text, err = token.Signer{KeyID: "bench", Key: private, Clock: clock.System{}}.Sign(
		identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: identity.Agent}, time.Hour)
	if err != nil {
		return "", err
	}
	broker, err := f.startBroker()
	if err != nil {
		return "", err
	}
	addr, err := process.FreeAddress()
	if err != nil {
		return "", err
	}
	if f.admin, err = process.FreeAddress(); err != nil {
		return "", err
	}
	f.toGateway.URL = "http://" + addr
	cores := "1"
	if b.test == process.Any {
		cores = strconv.Itoa(runtime.NumCPU())
	}
	f.gateway, err = process.Start(ctx, process.Program{
		Name: "gateway", Argv: []string{b.Bin + "/gateway"}, Core: b.test,
		Env: append([]string{
			"HTTP_ADDR=" + addr, "ADMIN_ADDR=" + f.admin, "GOMAXPROCS=" + cores,
			"AUTH_URL=" + own, "CALLS_URL=" + behind, "CRM_URL=" + behind, "NOTIFY_URL=" + behind,
			"KAFKA_BROKERS=" + broker,
			"RATE_LIMIT_LOGIN_PER_MINUTE=" + unlimited, "RATE_LIMIT_UPLOAD_PER_MINUTE=" + unlimited, "RATE_LIMIT_READ_PER_MINUTE=" + unlimited,
			"RATE_LIMIT_WRITE_PER_MINUTE=" + unlimited, "RATE_LIMIT_ANALYTICS_PER_MINUTE=" + unlimited,
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + own, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		}, b.Env...),
	})
	if err != nil {
		return "", err
	}
	f.add(f.gateway.Stop)
	return text, nil
}

// outside is what the gateway sees of auth, and where its traces go.
func (f *front) outside(keys token.JWKS) (http.Handler, error) {
	body, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("encode the keys: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("POST /v1/traces", &f.sink)
	return mux, nil
}

// check waits until both sides give the right answer, and makes sure that the gateway gives none without a token.
func (f *front) check(ctx context.Context) error {
	for _, side := range []struct {
		*process.Process
		load.Target
	}{{f.upstream.Process, f.toUpstream}, {f.nginx.Process, f.toNginx}, {f.gateway, f.toGateway}} {
		err := await(ctx, side.Process, func() error {
			status, body, err := ask(ctx, side.Target)
			if err == nil && (status != http.StatusOK || string(body) != call) {
				err = fmt.Errorf("%s answered %d: %.300s", side.URL, status, body)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	status, _, err := ask(ctx, load.Target{URL: f.toGateway.URL})
	if err == nil && status != http.StatusUnauthorized {
		err = fmt.Errorf("the gateway answered %d to a request without a token", status)
	}
	return err
}
