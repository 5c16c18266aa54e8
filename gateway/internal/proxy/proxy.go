// Package proxy forwards requests to one service and streams its responses back, in constant memory. A valid response is
// forwarded as it is; how a service fails is never shown to clients.
package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/convoflow/convoflow/gateway/internal/wire"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const (
	dialTimeout   = 2 * time.Second
	keepAlive     = 15 * time.Second // interval of TCP keep-alive probes
	headerTimeout = 60 * time.Second // of streamed requests, from the last byte of the request to the first of the response
	idleConns     = 256              // per service
	idleTimeout   = 90 * time.Second // less than the 2 min after which the services close idle connections
	bufferSize    = 32 << 10
	retryAfter    = 2 * time.Second
)

// Upstream is one service behind the gateway.
type Upstream struct {
	name          string
	base          *url.URL
	transport     transport
	pool          *wire.Pool
	buffered      client // of buffered requests: the pool or the transport
	breaker       *gobreaker.TwoStepCircuitBreaker[struct{}]
	retries       retryBudget
	bufferedSlots *slots
	uploadSlots   *slots
	downloadSlots *slots
	buffers       buffers
	options       Options
	metrics       *Metrics
	tel           telemetry.Set
}

// Options are the same for all services. Every field is required except Forwarded and H2C.
type Options struct {
	Forwarded   []string // headers about the client that are forwarded although ReverseProxy drops them
	H2C         bool     // HTTP/2 without TLS instead of HTTP/1.1
	Bodies      *rpc.Budget
	MaxRequests int // concurrent buffered requests
	MaxUploads  int // concurrent uploads
	MaxStreams  int // concurrent recordings and event streams
}

// New returns the upstream of the service that listens at address, such as http://calls:8080.
func New(name, address string, o Options, metrics *Metrics, tel telemetry.Set) (*Upstream, error) {
	base, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("parse the address of a service: %w", err)
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!o.H2C)
	protocols.SetUnencryptedHTTP2(o.H2C)
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	u := &Upstream{name: name, base: base, breaker: newBreaker(name), options: o, metrics: metrics, tel: tel, transport: transport{&http.Transport{
		Protocols:             protocols,
		DialContext:           dialer.DialContext,
		MaxIdleConnsPerHost:   idleConns,
		IdleConnTimeout:       idleTimeout,
		ResponseHeaderTimeout: headerTimeout,
		DisableCompression:    true,
	}}}
	u.pool = wire.New(base, wire.Options{Dial: dialer.DialContext, MaxIdle: idleConns, IdleTimeout: idleTimeout})
	if u.buffered = (pooled{u.pool}); o.H2C || base.Scheme == "https" {
		u.buffered = rebased{u.transport, base}
	}
	u.retries.tenths.Store(maxRetryBurst)
	u.bufferedSlots = metrics.slots(name, "buffered", o.MaxRequests)
	u.uploadSlots, u.downloadSlots = metrics.slots(name, "upload", o.MaxUploads), metrics.slots(name, "download", o.MaxStreams)
	return u, nil
}

// Close closes the idle connections.
func (u *Upstream) Close() {
	u.transport.CloseIdleConnections()
	u.pool.Close()
}

// Ready fails while the service is down or not ready itself. Of a service that is ready it returns the run.Warnings.
func (u *Upstream) Ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.base.JoinPath("ready").String(), nil)
	if err != nil {
		return fmt.Errorf("build the request: %w", err)
	}
	res, err := u.transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("request /ready: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, bufferSize)) // to the end, so that the connection can be reused
	if err != nil {
		return fmt.Errorf("read /ready: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("/ready returned %d", res.StatusCode)
	}
	var answer struct{ Warnings run.Warnings }
	if json.Unmarshal(body, &answer) != nil || len(answer.Warnings) == 0 {
		return nil
	}
	return answer.Warnings
}
