package proxy

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"github.com/convoflow/convoflow/gateway/internal/wire"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Upload proxies requests with large bodies. Bodies, in both directions, are forwarded as they arrive, without an overall timeout.
func (u *Upstream) Upload() http.Handler { return u.stream(u.uploadSlots) }

// Download proxies requests with large responses, as Upload does. Neither takes slots from the other.
func (u *Upstream) Download() http.Handler { return u.stream(u.downloadSlots) }

func (u *Upstream) stream(slots *slots) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite:        u.rewrite,
		Transport:      streaming{u},
		BufferPool:     &u.buffers,
		ModifyResponse: u.cleanResponse,
		ErrorHandler:   fail,
		FlushInterval:  -1,
		// The request's log line says whether the client disconnected or the response was truncated.
		ErrorLog: slog.NewLogLogger(u.tel.Log.Handler(), slog.LevelDebug),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slots.acquire(w, r) {
			defer slots.release()
			proxy.ServeHTTP(w, r)
		}
	})
}

// streaming is the http.RoundTripper of a ReverseProxy to an Upstream.
type streaming struct{ *Upstream }

// RoundTrip implements http.RoundTripper.
func (s streaming) RoundTrip(req *http.Request) (*http.Response, error) {
	return s.send(s.transport, req, time.Time{})
}

func (u *Upstream) rewrite(p *httputil.ProxyRequest) {
	p.SetURL(u.base)
	for _, name := range u.options.Forwarded {
		p.Out.Header.Set(name, p.In.Header.Get(name))
	}
	u.prepare(p.Out)
}

// prepare adapts the header of a request for the service, and gives the exchange its id.
func (u *Upstream) prepare(out *http.Request) {
	delete(out.Header, "Accept-Encoding") // the gateway compresses
	delete(out.Header, "Expect")          // the gateway sends 100 Continue itself
	out.Header[rpc.ExchangeIDHeader] = []string{rand.Text()}
	u.tel.Propagator.Inject(out.Context(), telemetry.Header(out.Header))
}

// transport sends requests over an http.Transport: streamed requests, and all of them over HTTP/2 or TLS.
type transport struct{ *http.Transport }

func (t transport) do(req *http.Request, deadline time.Time, p *progress) (*http.Response, error) {
	if deadline.IsZero() {
		return t.roundTrip(req.Context(), req, p)
	}
	ctx, cancel := context.WithDeadline(req.Context(), deadline)
	res, err := t.roundTrip(ctx, req, p)
	if err != nil {
		cancel()
		return nil, err
	}
	res.Body = cancelBody{res.Body, cancel}
	return res, nil
}

func (t transport) roundTrip(ctx context.Context, req *http.Request, p *progress) (*http.Response, error) {
	return t.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { p.connected() },
		GotFirstResponseByte: func() { p.answered.Store(true) },
	})))
}

// rebased is a transport for buffered requests, whose URL does not name the service and whose header has hop-by-hop fields.
type rebased struct {
	transport
	base *url.URL
}

func (t rebased) do(req *http.Request, deadline time.Time, p *progress) (*http.Response, error) {
	out := *req
	target := *req.URL
	target.Scheme, target.Host = t.base.Scheme, t.base.Host
	out.URL, out.Host = &target, t.base.Host
	for name := range out.Header {
		if wire.IsHopByHop(name) {
			delete(out.Header, name)
		}
	}
	if out.Header["User-Agent"] == nil {
		out.Header["User-Agent"] = []string{""} // or net/http would add its own
	}
	return t.transport.do(&out, deadline, p)
}

// cancelBody is a response body that cancels the context of its request when it is closed.
type cancelBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b cancelBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// buffers is a pool of the buffers that bodies are copied through.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(buffer []byte) { b.pool.Put((*[bufferSize]byte)(buffer)) }
