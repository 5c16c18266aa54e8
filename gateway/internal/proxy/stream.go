package proxy

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/telemetry"
)

// Stream passes requests on and hands every piece of a body on as it comes, in both directions, for as long as it takes.
func (u *Upstream) Stream() http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite:        u.rewrite,
		Transport:      sender{u},
		BufferPool:     &u.buffers,
		ModifyResponse: clean,
		ErrorHandler:   fail,
		FlushInterval:  -1,
		// The record of the request has what matters: who left, what broke off.
		ErrorLog: slog.NewLogLogger(u.tel.Log.Handler(), slog.LevelDebug),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u.streamed.enter(w, r) {
			defer u.streamed.leave()
			proxy.ServeHTTP(w, r)
		}
	})
}

// sender is an Upstream as what a ReverseProxy sends with.
type sender struct{ *Upstream }

// RoundTrip implements http.RoundTripper.
func (s sender) RoundTrip(req *http.Request) (*http.Response, error) {
	return s.send(s.transport, req, time.Time{})
}

func (u *Upstream) rewrite(p *httputil.ProxyRequest) {
	p.SetURL(u.base)
	for _, name := range u.options.Forwarded {
		p.Out.Header.Set(name, p.In.Header.Get(name))
	}
	u.prepare(p.Out)
}

// prepare makes the header of a request one to the service.
func (u *Upstream) prepare(out *http.Request) {
	delete(out.Header, "Accept-Encoding") // the gateway compresses
	delete(out.Header, "Expect")          // the gateway has said 100 Continue
	u.tel.Propagator.Inject(out.Context(), telemetry.Header(out.Header))
}

// transport is net/http's way to a service: for what is streamed, for HTTP/2 and for TLS.
type transport struct{ *http.Transport }

func (t transport) do(req *http.Request, deadline time.Time, a *attempts) (*http.Response, error) {
	if deadline.IsZero() {
		return t.trip(req.Context(), req, a)
	}
	ctx, cancel := context.WithDeadline(req.Context(), deadline)
	res, err := t.trip(ctx, req, a)
	if err != nil {
		cancel()
		return nil, err
	}
	res.Body = ending{res.Body, cancel}
	return res, nil
}

func (t transport) trip(ctx context.Context, req *http.Request, a *attempts) (*http.Response, error) {
	return t.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { a.reached() },
		GotFirstResponseByte: func() { a.answered.Store(true) },
	})))
}

// routed is a transport for requests whose URL does not name the service yet.
type routed struct {
	transport
	base *url.URL
}

func (t routed) do(req *http.Request, deadline time.Time, a *attempts) (*http.Response, error) {
	out := *req
	at := *req.URL
	at.Scheme, at.Host = t.base.Scheme, t.base.Host
	out.URL, out.Host = &at, t.base.Host
	for name := range out.Header {
		if isHopByHop(name) {
			delete(out.Header, name)
		}
	}
	if out.Header["User-Agent"] == nil {
		out.Header["User-Agent"] = []string{""} // or net/http would say its own
	}
	return t.transport.do(&out, deadline, a)
}

// ending is a body after which the time of a request is over.
type ending struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (e ending) Close() error {
	defer e.cancel()
	return e.ReadCloser.Close()
}

// buffers lends the buffers that bodies are copied through.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(buffer []byte) { b.pool.Put((*[bufferSize]byte)(buffer)) }
