// Package pabbly sends webhooks: one signed POST, whose response or failure it returns. It refuses to follow redirects, to use
// a proxy, to read an endless response, to connect to addresses outside the public internet, and to send inside a database
// transaction.
package pabbly

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"code.dny.dev/ssrf"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/network"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// Timeout is the limit of one request, from the DNS lookup to the last byte of the response.
const Timeout = 15 * time.Second

const (
	maxAnswer  = 64 << 10 // bytes read of a body, and of the headers
	maxExcerpt = 1 << 10  // bytes stored of it
	maxIdle    = 30 * time.Second
	// maxConns limits the connections to one host. Further requests wait for a free one, within their timeout. It is above what the
	// endpoints of one team need at the same host, such as connect.pabbly.com.
	maxConns = 64
)

// Options of a sender.
type Options struct {
	AllowPrivate []netip.Prefix // allowed addresses outside the public internet
	Timeout      time.Duration
	Clock        clock.Clock
	Resolver     *net.Resolver // nil: that of the machine
}

// Sender sends webhooks. It is safe for concurrent use.
type Sender struct {
	secure  *http.Client // https, to public and allowed addresses
	plain   *http.Client // http, to allowed addresses only
	timeout time.Duration
	clock   clock.Clock
	tel     telemetry.Set
}

// New returns a sender.
func New(o Options, tel telemetry.Set) *Sender {
	return &Sender{
		secure: newClient(o, guard(o.AllowPrivate)), plain: newClient(o, onlyPrivate(o.AllowPrivate)),
		timeout: o.Timeout, clock: o.Clock, tel: tel,
	}
}

// control checks an address that is about to be dialled, whatever its name resolved to before.
type control func(network, address string, c syscall.RawConn) error

// guard refuses addresses outside the public internet that are not allowed.
func guard(allowed []netip.Prefix) control {
	var v4, v6 []netip.Prefix
	for _, p := range allowed {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...)).Safe
}

// errNotAllowed means that an address is not in an allowed private network.
var errNotAllowed = errors.New("http is for allowed private networks only")

// onlyPrivate refuses all addresses that are not allowed. Without TLS, everybody on the way reads the payload.
func onlyPrivate(allowed []netip.Prefix) control {
	return func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || !slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(at.Addr().Unmap()) }) {
			return errNotAllowed
		}
		return nil
	}
}

func newClient(o Options, check control) *http.Client {
	dialer := &net.Dialer{Control: check, Resolver: o.Resolver}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxAnswer,
			MaxConnsPerHost:        maxConns,
			MaxIdleConnsPerHost:    maxConns, // each request of a busy endpoint would need a new connection otherwise
			IdleConnTimeout:        maxIdle,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close closes idle connections.
func (s *Sender) Close() {
	s.secure.CloseIdleConnections()
	s.plain.CloseIdleConnections()
}

// CheckReceiver says what is wrong with the URL of a receiver, without repeating it. An address in it must be one that is dialled; those of
// a name are checked when it is dialled.
func CheckReceiver(text string, allowed []netip.Prefix) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("must be an https URL")
	case u.Scheme == "http" && len(allowed) == 0:
		return errors.New("must be an https URL: http is for private networks that WEBHOOK_ALLOW_PRIVATE_CIDRS allows")
	case u.User != nil:
		return errors.New("must not have a user or password in it")
	}
	address, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil // it is a name
	}
	check, kind := guard(allowed), "tcp6"
	if u.Scheme == "http" {
		check = onlyPrivate(allowed)
	}
	if address.Is4() {
		kind = "tcp4"
	}
	if check(kind, netip.AddrPortFrom(address, 443).String(), nil) != nil {
		return errors.New("must not name an address that webhooks are not sent to: a private network needs WEBHOOK_ALLOW_PRIVATE_CIDRS, and http is for these only")
	}
	return nil
}

// Send posts a message. A failed request returns an Answer too; the only error is network.ErrInTransaction.
func (s *Sender) Send(ctx context.Context, m delivery.Message) (delivery.Answer, error) {
	if err := network.Check(ctx); err != nil {
		return delivery.Answer{}, err
	}
	return s.post(ctx, m), nil
}

func (s *Sender) post(ctx context.Context, m delivery.Message) (a delivery.Answer) {
	ctx, span := s.tel.Tracer().Start(ctx, "webhook.send", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("http.request.method", http.MethodPost)))
	defer span.End()
	took := clock.Stopwatch()
	defer func() {
		a.Took, a.TraceID = took(), telemetry.TraceID(ctx)
		describe(span, a)
	}()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	req, err := s.request(ctx, m)
	if err != nil {
		return failed("secret_invalid")
	}
	client := s.secure
	if req.URL.Scheme != "https" {
		client = s.plain
	}
	res, err := client.Do(req)
	if err != nil {
		return failed(failureCode(err))
	}
	defer func() { _ = res.Body.Close() }()
	a.StatusCode, a.RetryAfter = &res.StatusCode, s.retryAfter(res)
	// Only the status counts: a truncated or endless body changes nothing.
	read, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	a.Excerpt = excerpt(read)
	return a
}

func (s *Sender) request(ctx context.Context, m delivery.Message) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL, bytes.NewReader(m.Body))
	if err != nil {
		return nil, fmt.Errorf("make the request of event %s", m.EventID) // err contains the URL
	}
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "Convoflow/"+s.tel.Version)
	h.Set("X-Pabbly-Event", m.Event)
	s.tel.Propagator.Inject(ctx, telemetry.Header(h))
	return req, sign(h, m.Secrets, m.EventID, s.clock.Now(), m.Body)
}

// retryAfter returns the wait that a 429 or 503 requests, in seconds or until a date (RFC 9110, 10.2.3); 0 if none.
func (s *Sender) retryAfter(res *http.Response) time.Duration {
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	text := res.Header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(s.clock.Now()))
	}
	return 0
}

// failureCode returns the code of a failure by how far the request got. The error itself contains the URL, so it is not logged.
func failureCode(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var netErr net.Error
	isAlert := errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error") // as crypto/tls reports alerts
	switch {
	case errors.Is(err, errNotAllowed), errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedNetwork), errors.Is(err, ssrf.ErrInvalidHostPort):
		return "address_refused"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "timeout"
	case errors.As(err, &dns):
		return "dns"
	case errors.As(err, &certificate), errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch), isAlert:
		return "tls"
	case errors.As(err, &op) && op.Op == "dial":
		return "connect"
	default:
		return "connection_lost"
	}
}

func failed(problem string) delivery.Answer { return delivery.Answer{Error: &problem} }

// excerpt returns the beginning of a response as text without control characters, which PostgreSQL and terminals do not accept.
func excerpt(body []byte) string {
	text := strings.ToValidUTF8(string(body[:min(len(body), maxExcerpt)]), "")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, text)
}

func describe(span trace.Span, a delivery.Answer) {
	if a.StatusCode != nil {
		span.SetAttributes(attribute.Int("http.response.status_code", *a.StatusCode))
	}
	if a.Error != nil {
		span.SetAttributes(attribute.String("error.type", *a.Error))
		span.SetStatus(codes.Error, *a.Error)
	}
}
