// Package proxy passes requests on to one service and streams its answers back, in constant memory. What the service says
// when it works is passed on as it is; how it fails is never shown.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const (
	dialTimeout   = 2 * time.Second
	keepAlive     = 15 * time.Second
	headerTimeout = 60 * time.Second // of what is streamed, from the last byte of the request to the first of the answer
	idleConns     = 256              // kept to one service
	idleTimeout   = 90 * time.Second // less than the 2 min after which the services close them
	bufferSize    = 32 << 10
	retryAfter    = 2 * time.Second
)

// Upstream is one service behind the gateway.
type Upstream struct {
	name      string
	base      *url.URL
	transport transport
	conns     *conns
	quickly   link // for what is in memory: over the transport or the conns
	circuit   *gobreaker.TwoStepCircuitBreaker[struct{}]
	budget    budget
	quick     *places // for what is in memory
	streamed  *places // for uploads, recordings and event streams
	buffers   buffers
	options   Options
	numbers   *Numbers
	tel       telemetry.Set
}

// Options are the same for all services. Every field is needed but Forwarded and H2C.
type Options struct {
	Forwarded   []string // headers about who really calls, passed on although a proxy usually drops them
	H2C         bool     // HTTP/2 without TLS instead of HTTP/1.1
	MaxRequests int      // at the same time
	MaxStreams  int      // uploads, recordings and event streams at the same time
}

// New makes the upstream of the service that listens at address, such as http://calls:8080.
func New(name, address string, o Options, numbers *Numbers, tel telemetry.Set) (*Upstream, error) {
	base, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("read the address of a service: %w", err)
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!o.H2C)
	protocols.SetUnencryptedHTTP2(o.H2C)
	u := &Upstream{name: name, base: base, circuit: newCircuit(name), options: o, numbers: numbers, tel: tel, transport: transport{&http.Transport{
		Protocols:             protocols,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
		MaxIdleConnsPerHost:   idleConns,
		IdleConnTimeout:       idleTimeout,
		ResponseHeaderTimeout: headerTimeout,
		DisableCompression:    true,
	}}}
	u.conns = newConns(base)
	if u.quickly = u.conns; o.H2C || base.Scheme == "https" { // what TLS has read already cannot be seen
		u.quickly = routed{u.transport, base}
	}
	u.budget.tenths.Store(mostTenths)
	u.quick, u.streamed = numbers.places(name, "quick", o.MaxRequests), numbers.places(name, "streamed", o.MaxStreams)
	return u, nil
}

// Close ends the connections that nobody uses.
func (u *Upstream) Close() {
	u.transport.CloseIdleConnections()
	u.conns.close()
}

// clean removes from an answer what is the gateway's to say.
func clean(res *http.Response) error {
	if err := foreign(res); err != nil {
		return err
	}
	for name := range res.Header {
		if isOurs(name) {
			delete(res.Header, name)
		}
	}
	return nil
}

// isOurs reports whether a header of an answer is the gateway's to set.
func isOurs(name string) bool {
	switch name {
	case "Server", "X-Powered-By", "X-Request-Id", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Content-Security-Policy", "Strict-Transport-Security":
		return true
	}
	return strings.HasPrefix(name, "Access-Control-")
}

// foreign turns an error that is not in the shape of our errors, from something between us and the service, into one that
// is.
func foreign(res *http.Response) error {
	if res.StatusCode < http.StatusBadRequest {
		return nil
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if kind == "application/json" {
		return nil
	}
	err := fmt.Errorf("%w: %d with %q", errAnswer, res.StatusCode, kind)
	switch res.StatusCode {
	case http.StatusServiceUnavailable: // what stands between us has nobody to send it to
		return unavailable(err)
	case http.StatusGatewayTimeout:
		return tooSlow(err)
	}
	return err
}

func fail(w http.ResponseWriter, r *http.Request, err error) {
	var refused *fault.Error
	switch {
	case errors.Is(r.Context().Err(), context.Canceled):
		record.Gone(w, err)
	case errors.As(err, &refused):
		if refused.Kind == fault.TooLarge || refused.Kind == fault.Malformed { // the reading of the body
			w.Header().Set("Connection", "close")
		}
		record.Fail(w, r, refused)
	case isTimeout(err):
		record.Fail(w, r, tooSlow(err))
	case errors.Is(err, errAnswer):
		record.Fail(w, r, fault.Wrap(err, fault.BadGateway, "bad_gateway", "A part of the platform answered with something that is no answer, try again").After(retryAfter))
	default:
		record.Fail(w, r, unavailable(err))
	}
}

// errAnswer marks an answer that began and is not what its protocol allows.
var errAnswer = errors.New("not an answer of a service")

func tooSlow(cause error) error {
	return fault.Wrap(cause, fault.Timeout, "timeout", "A part of the platform took too long, try again").After(retryAfter)
}

func unavailable(cause error) error {
	return fault.Wrap(cause, fault.Unavailable, "service_unavailable", "A part of the platform does not answer right now, try again").After(retryAfter)
}

// isTimeout reports whether a service that was reached did not answer in time. One that cannot be reached is down.
func isTimeout(err error) bool {
	var timeout net.Error
	return !isDial(err) && errors.As(err, &timeout) && timeout.Timeout()
}

// Ready fails while the service is down or not ready itself.
func (u *Upstream) Ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.base.JoinPath("ready").String(), nil)
	if err != nil {
		return fmt.Errorf("build the request: %w", err)
	}
	res, err := u.transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask whether it is ready: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.CopyN(io.Discard, res.Body, bufferSize) // so that the connection can be used again
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("it says it is not ready: %d", res.StatusCode)
	}
	return nil
}
