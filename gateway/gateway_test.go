package gateway

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// A recording of 200 MB is streamed in constant memory. Not parallel: the test measures the heap of the process.
func TestAnUploadIsStreamed(t *testing.T) {
	const size = 200 << 20
	f := newFixture(t, func(c *Config) { c.MaxAudioSizeMB = 200 })
	var peak, received atomic.Uint64
	f.services["calls"].respond(func(w http.ResponseWriter, r *http.Request) {
		piece := make([]byte, 1<<20)
		for {
			n, err := io.ReadFull(r.Body, piece)
			received.Add(uint64(n))
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapAlloc))
			if err != nil {
				break
			}
		}
		w.WriteHeader(http.StatusAccepted)
	})
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	req := f.agent(t, http.MethodPost, "/calls/upload", io.LimitReader(zeros{}, size))
	req.ContentLength = size
	res, body := do(t, req)
	require.Equal(t, http.StatusAccepted, res.StatusCode, body)
	require.EqualValues(t, size, received.Load())
	require.Less(t, int64(peak.Load())-int64(before.HeapAlloc), int64(32<<20))
	t.Logf("heap: %d kB more for %d MB", (int64(peak.Load())-int64(before.HeapAlloc))>>10, size>>20)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestARequestIsProxied(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var got *http.Request
	var sent string
	f.services["crm"].respond(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got, sent = r.Clone(context.WithoutCancel(r.Context())), string(raw)
		w.Header().Set("Server", "internal/1.0")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("ETag", `W/"1"`)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":1}`)
	})
	req := f.agent(t, http.MethodPost, "/clients/?x=1&y=a%20b", strings.NewReader(`{"name":"Acme"}`))
	req.Header.Set("X-Request-ID", "my-request-1")
	req.Header.Set("Idempotency-Key", "key")
	req.Header.Set("Accept-Encoding", "gzip")
	res, body := do(t, req)
	require.Equal(t, http.StatusCreated, res.StatusCode, body)
	require.Equal(t, `{"id":1}`, body)
	require.Equal(t, "my-request-1", res.Header.Get("X-Request-ID"))
	require.Equal(t, `W/"1"`, res.Header.Get("ETag"))
	require.Empty(t, res.Header.Get("Access-Control-Allow-Origin"))
	requireSecure(t, res)

	require.Equal(t, "/clients", got.URL.Path, "a trailing slash is the same path")
	require.Equal(t, "x=1&y=a%20b", got.URL.RawQuery)
	require.Equal(t, `{"name":"Acme"}`, sent)
	require.Equal(t, req.Header.Get("Authorization"), got.Header.Get("Authorization"), "the services verify the token again")
	require.Equal(t, "key", got.Header.Get("Idempotency-Key"))
	require.Equal(t, "my-request-1", got.Header.Get("X-Request-ID"))
	require.Empty(t, got.Header.Get("Accept-Encoding"))
}

func TestForgedHeadersAreDropped(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var got http.Header
	f.services["calls"].respond(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
	req := f.agent(t, http.MethodGet, "/calls", nil)
	for _, name := range []string{
		"X-User-Id", "X-User-Role", "X-Agent-Id", "X-Auth-Request-Email", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
		"X-Forwarded-User", "Forwarded", "X-Real-Ip", "True-Client-Ip", "X-Original-Url", "X-Http-Method-Override", "Baggage", "Upgrade",
	} {
		req.Header.Set(name, "forged")
	}
	req.Header.Set("Connection", "X-Request-Id, Upgrade")
	req.Header.Set("X-Request-Id", "forged\u00e4id")
	res, _ := do(t, req)
	require.Equal(t, http.StatusOK, res.StatusCode)
	for name, values := range got {
		require.NotContains(t, strings.Join(values, " "), "forged", name)
	}
	require.Equal(t, []string{"127.0.0.1"}, got["X-Forwarded-For"])
	require.Equal(t, []string{"http"}, got["X-Forwarded-Proto"])
	require.Equal(t, []string{strings.TrimPrefix(f.url, "http://")}, got["X-Forwarded-Host"])
	require.Equal(t, res.Header.Values("X-Request-Id"), got["X-Request-Id"])
	require.NotEmpty(t, got.Get("Traceparent"))
	require.Empty(t, got.Get("Upgrade"))
}

func TestForwardedHeadersOfATrustedProxy(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.TrustedProxies = []string{"127.0.0.0/8"} })
	var got http.Header
	f.services["auth"].respond(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
	req := f.request(t, http.MethodPost, "/auth/login", nil)
	req.Header.Set("X-Forwarded-For", "1.1.1.1, 203.0.113.9")
	req.Header.Set("X-Forwarded-Proto", "https")
	res, _ := do(t, req)
	require.Equal(t, []string{"203.0.113.9"}, got["X-Forwarded-For"])
	require.NotEmpty(t, res.Header.Get("Strict-Transport-Security"))
}

func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.AllowedHosts = []string{"127.0.0.1"} })
	_, forger, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	forged, err := token.Signer{KeyID: "test", Key: forger, Clock: clock.System{}}.Sign(identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: identity.Admin}, time.Hour)
	require.NoError(t, err)
	agent := "Bearer " + f.token(t, identity.Agent)
	for name, c := range map[string]struct {
		method, path, authorization, host string
		body                              io.Reader
		status                            int
		code, allow                       string
	}{
		"no token":             {method: "GET", path: "/calls", status: 401, code: "not_authenticated"},
		"a forged token":       {method: "GET", path: "/calls", authorization: "Bearer " + forged, status: 401, code: "invalid_token"},
		"another scheme":       {method: "GET", path: "/calls", authorization: "Basic YTpi", status: 401, code: "invalid_token"},
		"an agent as admin":    {method: "GET", path: "/webhooks/deliveries", authorization: agent, status: 403, code: "admin_only"},
		"no such path":         {method: "GET", path: "/nothing", authorization: agent, status: 404, code: "not_found"},
		"the root":             {method: "GET", path: "/", status: 404, code: "not_found"},
		"metrics":              {method: "GET", path: "/metrics", status: 404, code: "not_found"},
		"profiles":             {method: "GET", path: "/debug/pprof/", status: 404, code: "not_found"},
		"a path with ..":       {method: "GET", path: "/calls/../metrics", authorization: agent, status: 404, code: "not_found"},
		"a double slash":       {method: "GET", path: "//calls", authorization: agent, status: 404, code: "not_found"},
		"no such method":       {method: "DELETE", path: "/calls/", authorization: agent, status: 405, code: "method_not_allowed", allow: "GET, HEAD, POST"},
		"an unknown method":    {method: "BREW", path: "/clients", authorization: agent, status: 405, code: "method_not_allowed", allow: "GET, HEAD, POST"},
		"no origin is allowed": {method: "OPTIONS", path: "/auth/login", status: 405, code: "method_not_allowed", allow: "POST"},
		"too large":            {method: "POST", path: "/clients", authorization: agent, body: strings.NewReader(strings.Repeat(" ", 1<<20+1)), status: 413, code: "body_too_large"},
		"too large, chunked":   {method: "POST", path: "/clients", authorization: agent, body: io.LimitReader(zeros{}, 1<<20+1), status: 413, code: "body_too_large"},
		"an upload by GET":     {method: "GET", path: "/calls/upload", authorization: agent, status: 405, code: "method_not_allowed", allow: "POST"},
		"a long method":        {method: strings.Repeat("BREW", 1000), path: "/clients", status: 405, code: "method_not_allowed", allow: "GET, HEAD, POST"},
		"a large login":        {method: "POST", path: "/auth/login", body: strings.NewReader(strings.Repeat(" ", 16<<10+1)), status: 413, code: "body_too_large"},
		"another host":         {method: "GET", path: "/health", host: "evil.example.com", status: 400, code: "unknown_host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := f.request(t, c.method, c.path, c.body)
			req.Host = c.host
			if c.authorization != "" {
				req.Header.Set("Authorization", c.authorization)
			}
			res, body := do(t, req)
			requireError(t, res, body, c.status, c.code)
			require.NotContains(t, body, "BREWBREWBREWBREWBREWBREWBREWBREWB", "a long method is not quoted")
			require.Equal(t, c.allow, res.Header.Get("Allow"))
			require.Equal(t, c.status == http.StatusUnauthorized, res.Header.Get("WWW-Authenticate") != "")
		})
	}
	t.Cleanup(func() {
		for name, s := range f.services {
			if name != "crm" { // the chunked body starts to be buffered for it
				require.Zero(t, s.calls.Load(), name)
			}
		}
	})
}

// The response arrives although the client has not sent a byte of the body.
func TestAnUploadIsRefusedBeforeItIsRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for name, c := range map[string]struct {
		header string
		status string
	}{
		"no token":            {"Content-Length: 1000000\r\n", "401 Unauthorized"},
		"no token, chunked":   {"Transfer-Encoding: chunked\r\n", "401 Unauthorized"},
		"no token, Expect":    {"Content-Length: 1000\r\nExpect: 100-continue\r\n", "401 Unauthorized"},
		"a small body":        {"Content-Length: 1000\r\n", "401 Unauthorized"},
		"an agent, too large": {"Authorization: Bearer " + f.token(t, identity.Agent) + "\r\nContent-Length: " + strconv.Itoa(101<<20+1) + "\r\n", "413 Request Entity Too Large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			require.NoError(t, conn.SetDeadline(time.Now().Add(beforeStall)))
			_, err = io.WriteString(conn, "POST /calls/upload HTTP/1.1\r\nHost: a\r\n"+c.header+"\r\n")
			require.NoError(t, err)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			defer func() { _ = res.Body.Close() }()
			require.Equal(t, c.status, res.Status)
			require.True(t, res.Close, "the rest of the body is not parsed as a request")
		})
	}
	t.Cleanup(func() { require.Zero(t, f.services["calls"].calls.Load()) })
}

func TestAChunkedUploadOverTheLimitIsCut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.MaxAudioSizeMB = 1 })
	var received atomic.Int64
	failed := make(chan error, 1)
	f.services["calls"].respond(func(_ http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		received.Store(n)
		failed <- err
	})
	res, body := do(t, f.agent(t, http.MethodPost, "/calls/upload", io.LimitReader(zeros{}, 5<<20)))
	requireError(t, res, body, http.StatusRequestEntityTooLarge, "body_too_large")
	require.Error(t, <-failed, "the service notices that the body is truncated")
	require.LessOrEqual(t, received.Load(), int64(2<<20))
}

func TestAnUploadOfTheMaximumSize(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.MaxAudioSizeMB = 1 })
	res, body := do(t, f.agent(t, http.MethodPost, "/calls/upload", io.LimitReader(zeros{}, 2<<20)))
	require.Equal(t, http.StatusOK, res.StatusCode, body)
}

func TestAClientGets100Continue(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.services["calls"].respond(echo)
	continued := make(chan struct{}, 2)
	req := f.agent(t, http.MethodPost, "/calls/upload", strings.NewReader("audio"))
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{Got100Continue: func() { continued <- struct{}{} }}))
	req.Header.Set("Expect", "100-continue")
	transport := &http.Transport{ExpectContinueTimeout: time.Minute}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "audio", string(body))
	require.Len(t, continued, 1)
	requireSecure(t, res)
}

// echo responds with the request body, once it is complete.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
	}
	_, _ = w.Write(body)
}

func TestARequestIsCancelledWhenTheClientLeaves(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	arrived, left := make(chan struct{}), make(chan struct{})
	f.services["calls"].respond(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 4))
		close(arrived)
		_, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			<-r.Context().Done()
			close(left)
		}
	})
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
	require.NoError(t, err)
	_, err = io.WriteString(conn, "POST /calls/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\nAuthorization: Bearer "+f.token(t, identity.Agent)+"\r\n\r\nhalf")
	require.NoError(t, err)
	<-arrived
	require.NoError(t, conn.Close())
	<-left
	f.log.find(t, `"op":"gateway.calls.upload"`, `"status":499`, `"code":"client_closed_request"`)
}

func TestAServiceThatIsDown(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.services["crm"].server.Close()
	res, body := do(t, f.agent(t, http.MethodGet, "/clients", nil))
	requireError(t, res, body, http.StatusServiceUnavailable, "service_unavailable")
	require.Equal(t, "2", res.Header.Get("Retry-After"))
	require.NotContains(t, body, "127.0.0.1")
	require.Contains(t, f.log.find(t, `"op":"gateway.crm.list_clients"`), "connect: connection refused")

	res, body = do(t, f.agent(t, http.MethodGet, "/calls", nil))
	require.Equal(t, http.StatusOK, res.StatusCode, body)
}

func TestErrorsOfAServiceThatAreNotJSONAreReplaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.services["crm"].respond(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("skip"))
		http.Error(w, "pq: secret internals", status)
	})
	for status, want := range map[string]struct {
		status int
		code   string
	}{"500": {502, "bad_gateway"}, "502": {502, "bad_gateway"}, "503": {503, "service_unavailable"}, "504": {504, "timeout"}} {
		res, body := do(t, f.agent(t, http.MethodGet, "/clients?skip="+status, nil))
		requireError(t, res, body, want.status, want.code)
		require.Equal(t, "2", res.Header.Get("Retry-After"))
		require.NotContains(t, body, "secret")
	}

	f.services["calls"].respond(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	res, body := do(t, f.agent(t, http.MethodPost, "/calls/upload", strings.NewReader("x")))
	requireError(t, res, body, http.StatusServiceUnavailable, "service_unavailable")
}

func TestAJSONErrorOfAServiceIsForwarded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.services["calls"].respond(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"code":"busy"}`)
	})
	res, body := do(t, f.agent(t, http.MethodGet, "/calls", nil))
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Equal(t, "7", res.Header.Get("Retry-After"))
	require.Equal(t, `{"code":"busy"}`, body)
}

func TestATruncatedResponseIsCut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.services["calls"].respond(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "audio/ogg")
		_, _ = w.Write(make([]byte, 100<<10))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	res, err := client().Do(f.agent(t, http.MethodGet, "/calls/1/audio", nil))
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(io.Discard, res.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	f.log.find(t, `"op":"gateway.calls.audio"`, `"status":502`, `"code":"answer_cut"`)
}

func TestALinkNeedsNoCallerAndItsTokenIsNotLogged(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.services["calls"].respond(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.RawQuery) })
	get := func(path string) (int, string) {
		res, err := client().Get(f.url + path)
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(body)
	}
	audio := "/calls/" + event.NewID() + "/audio"
	status, body := get(audio + "?token=se.cret")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "token=se.cret", body, "the service verifies it")
	for _, path := range []string{audio, audio + "?tokens=x", "/calls?token=se.cret", strings.TrimSuffix(audio, "/audio") + "?token=se.cret"} {
		status, _ = get(path)
		require.Equal(t, http.StatusUnauthorized, status, path)
	}
	f.log.find(t, `"op":"gateway.calls.audio"`, `"status":200`)
	require.NotContains(t, f.log.String(), "se.cret")
	for _, span := range f.spans.GetSpans() {
		require.NotContains(t, fmt.Sprint(span.Name, span.Attributes), "se.cret")
	}
}

func TestADownloadIsStreamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	more := make(chan struct{})
	f.services["calls"].respond(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "audio/ogg")
		w.Header().Set("Content-Range", "bytes 0-7/8")
		w.Header().Set("Content-Length", "8")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		<-more
		_, _ = io.WriteString(w, "rest")
	})
	req := f.agent(t, http.MethodGet, "/calls/1/audio", nil)
	req.Header.Set("Range", "bytes=0-")
	req.Header.Set("Accept-Encoding", "gzip")
	res, err := client().Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(t, http.StatusPartialContent, res.StatusCode)
	require.Equal(t, "bytes 0-7/8", res.Header.Get("Content-Range"))
	require.Empty(t, res.Header.Get("Content-Encoding"))
	first := make([]byte, 4)
	_, err = io.ReadFull(res.Body, first)
	require.NoError(t, err, "the first half arrives before the second is written")
	close(more)
	rest, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "halfrest", string(first)+string(rest))
}

// Events pass at once, also to a client that accepts gzip. A gateway that stops ends their streams, which would never end by themselves.
func TestServerSentEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	gone := make(chan struct{})
	f.services["calls"].respond(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, r.Header.Get("Last-Event-ID")+"\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	tel := f.tel
	tel.Metrics = telemetry.Nop().Metrics // a metric can be registered only once per registry
	app, err := New(t.Context(), f.cfg, tel)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	require.Eventually(t, func() bool { return app.Ready(t.Context()) == nil }, timeout, time.Millisecond)
	f.url = "http://" + app.Addr()
	req := f.agent(t, http.MethodGet, "/events", nil)
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("Last-Event-ID", "7-1")
	res, err := client().Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Empty(t, res.Header.Get("Content-Encoding"))
	line := make([]byte, 4)
	_, err = io.ReadFull(res.Body, line)
	require.NoError(t, err)
	require.Equal(t, "7-1\n", string(line))
	stop()
	rest, err := io.ReadAll(res.Body)
	require.NoError(t, err, "it is not cut")
	require.Empty(t, rest)
	<-gone
	require.NoError(t, <-ended)
}

func TestLargeJSONIsCompressed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for name, c := range map[string]struct {
		kind       string
		size       int
		accept     string
		compressed bool
	}{
		"large":                  {"application/json", 5000, "br, gzip", true},
		"small":                  {"application/json", 500, "gzip", false},
		"a client that does not": {"application/json", 5000, "", false},
		"not JSON":               {"text/csv", 5000, "gzip", false},
		"audio":                  {"audio/mpeg", 5000, "gzip", false},
		"events":                 {"text/event-stream", 5000, "gzip", false},
	} {
		want := `"` + strings.Repeat("a", c.size) + `"`
		f.services["calls"].respond(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.kind)
			w.Header().Set("ETag", `W/"1"`)
			_, _ = io.WriteString(w, want)
		})
		req := f.agent(t, http.MethodGet, "/calls", nil)
		req.Header.Set("Accept-Encoding", c.accept)
		res, body := do(t, req)
		require.Equal(t, c.compressed, res.Header.Get("Content-Encoding") == "gzip", name)
		require.Equal(t, `W/"1"`, res.Header.Get("ETag"))
		if c.compressed {
			require.Less(t, len(body), c.size)
			require.Contains(t, res.Header.Get("Vary"), "Accept-Encoding")
			unzip, err := gzip.NewReader(strings.NewReader(body))
			require.NoError(t, err)
			raw, err := io.ReadAll(unzip)
			require.NoError(t, err)
			body = string(raw)
		}
		require.Equal(t, want, body, name)
	}
}

func TestOnlyConfiguredOriginsAreAllowed(t *testing.T) {
	t.Parallel()
	const origin = "https://app.example.com"
	f := newFixture(t, func(c *Config) { c.AllowedOrigins = []string{origin, " http://localhost:3000"} })
	preflight := func(origin string) *http.Response {
		req := f.request(t, http.MethodOptions, "/clients", nil)
		req.Header.Set("Origin", origin)
		req.Header.Set("Access-Control-Request-Method", "POST")
		req.Header.Set("Access-Control-Request-Headers", "authorization,content-type,idempotency-key")
		res, _ := do(t, req)
		return res
	}
	for _, named := range []string{origin, "http://localhost:3000"} {
		res := preflight(named)
		require.Equal(t, http.StatusNoContent, res.StatusCode)
		require.Equal(t, named, res.Header.Get("Access-Control-Allow-Origin"))
		requireSecure(t, res)
	}
	for _, other := range []string{"https://evil.example.com", "https://app.example.com.evil.com", "http://app.example.com", "null"} {
		require.Empty(t, preflight(other).Header.Get("Access-Control-Allow-Origin"), other)
	}
	req := f.request(t, http.MethodGet, "/calls", nil)
	req.Header.Set("Origin", origin)
	res, body := do(t, req)
	requireError(t, res, body, http.StatusUnauthorized, "not_authenticated")
	require.Equal(t, origin, res.Header.Get("Access-Control-Allow-Origin"), "a web app can read errors too")
	require.Contains(t, res.Header.Get("Access-Control-Expose-Headers"), "Link")
}

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	res, body := do(t, f.request(t, http.MethodGet, "/health", nil))
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.JSONEq(t, `{"status":"ok","service":"convoflow","version":"1.2.3"}`, body)
	requireSecure(t, res)

	res, body = do(t, f.request(t, http.MethodGet, "/ready/", nil))
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.JSONEq(t, `{"status":"ready","services":{"auth":"ready","calls":"ready","crm":"ready","gateway":"ready","notify":"ready"}}`, body)

	f.services["calls"].warning.Store(new("the model ends"))
	require.Eventually(t, func() bool {
		res, body = do(t, f.request(t, http.MethodGet, "/ready", nil))
		return strings.Contains(body, "warnings")
	}, timeout, 20*time.Millisecond)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.JSONEq(t, `{"status":"ready","services":{"auth":"ready","calls":"ready","crm":"ready","gateway":"ready","notify":"ready"},"warnings":{"calls":["the model ends"]}}`, body)
	f.services["calls"].warning.Store(nil)

	f.services["crm"].notReady.Store(true)
	f.services["notify"].server.Close()
	require.Eventually(t, func() bool { // a result is cached
		res, body = do(t, f.request(t, http.MethodGet, "/ready", nil))
		return res.StatusCode == http.StatusServiceUnavailable
	}, timeout, 20*time.Millisecond)
	require.JSONEq(t, `{"status":"unavailable","services":{"auth":"ready","calls":"ready","crm":"unavailable","gateway":"ready","notify":"unavailable"}}`, body)
	require.Contains(t, f.log.find(t, `"op":"gateway.ready"`, `"status":503`), `"level":"INFO"`, "a probe that asks is no failure of the gateway")

	res, _ = do(t, f.request(t, http.MethodGet, "/health", nil))
	require.Equal(t, http.StatusOK, res.StatusCode, "liveness checks no dependency")
}

func TestTheContractIsPublished(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	res, body := do(t, f.request(t, http.MethodGet, "/openapi.json", nil))
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "application/json", res.Header.Get("Content-Type"))
	var doc struct {
		Info  struct{ Title, Version string }
		Paths map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(body), &doc))
	require.Equal(t, "Convoflow", doc.Info.Title)
	require.Equal(t, "1.2.3", doc.Info.Version)
	for _, path := range []string{"/auth/login", "/calls/{id}", "/clients", "/webhooks/deliveries", "/health"} {
		require.NotNil(t, doc.Paths[path], path)
	}

	again := f.request(t, http.MethodGet, "/openapi.json", nil)
	again.Header.Set("If-None-Match", res.Header.Get("ETag"))
	res, body = do(t, again)
	require.Equal(t, http.StatusNotModified, res.StatusCode)
	require.Empty(t, body)

	zipped := f.request(t, http.MethodGet, "/openapi.json", nil)
	zipped.Header.Set("Accept-Encoding", "gzip")
	zipped.Header.Set("Range", "bytes=0-1")
	res, _ = do(t, zipped)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "gzip", res.Header.Get("Content-Encoding"))
	require.Equal(t, again.Header.Get("If-None-Match"), res.Header.Get("ETag"))
}

// The page loads files of the gateway only, all of them exist, and the policy allows no other scripts.
func TestTheReferenceNeedsNoNetwork(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	res, page := do(t, f.request(t, http.MethodGet, "/docs/", nil))
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", res.Header.Get("Content-Type"))
	require.Contains(t, page, "/openapi.json")
	policy := res.Header.Get("Content-Security-Policy")
	require.Len(t, regexp.MustCompile(`'sha256-[^']+'`).FindAllString(policy, -1), strings.Count(page, "<script>"))
	require.NotContains(t, policy, "script-src 'unsafe")
	require.NotRegexp(t, `https?:`, policy)

	links := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1)
	require.GreaterOrEqual(t, len(links), 5)
	for _, link := range links {
		require.Regexp(t, `^/docs/[\w.-]+$`, link[1])
		res, body := do(t, f.request(t, http.MethodGet, link[1], nil))
		require.Equal(t, http.StatusOK, res.StatusCode, link[1])
		require.NotEmpty(t, body)
	}
	for _, none := range []string{"/docs/nothing.js", "/docs/..", "/docs/embed.go"} {
		res, body := do(t, f.request(t, http.MethodGet, none, nil))
		requireError(t, res, body, http.StatusNotFound, "not_found")
	}
}

func TestAMountedPrefixIsNoPathOfTheAPI(t *testing.T) {
	t.Parallel()
	cfg := newFixture(t, nil).cfg
	cfg.HTTP.Listener, cfg.Admin.Listener = nil, nil
	cfg.Mount = map[string]http.Handler{"/clients": http.NotFoundHandler()}
	_, err := New(t.Context(), cfg, telemetry.Nop())
	require.ErrorContains(t, err, `the mounted prefix "/clients" is a path of the API`)
}

func TestMountedHandlersAreServed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) {
		c.AllowedHosts = []string{"127.0.0.1"}
		c.Mount = map[string]http.Handler{"/inbox": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/inbox/bug" {
				panic("a bug")
			}
			for name := range r.Header {
				if strings.HasPrefix(name, "X-Forwarded") {
					w.WriteHeader(http.StatusTeapot)
				}
			}
			_, _ = io.WriteString(w, r.Method+" "+r.URL.Path+strings.Join(r.Header["Via"], ","))
		})}
	})
	for path, want := range map[string]string{"/inbox": "POST /inbox", "/inbox/": "POST /inbox", "/inbox/a/b": "POST /inbox/a/b"} {
		res, body := do(t, f.request(t, http.MethodPost, path, strings.NewReader("{}")))
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, want, body)
		requireSecure(t, res)
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto", "Forwarded", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP"} {
		req := f.request(t, http.MethodGet, "/inbox", nil)
		req.Header.Set(name, "127.0.0.1")
		_, body := do(t, req)
		require.Equal(t, "GET /inbox1.1 proxy", body, "%s is from a proxy", name)
	}
	res, body := do(t, f.request(t, http.MethodGet, "/inbox/bug", nil))
	requireError(t, res, body, http.StatusInternalServerError, "internal_error")
	require.NotContains(t, body, "a bug")

	other := f.request(t, http.MethodGet, "/inbox", nil)
	other.Host = "evil.example.com"
	res, body = do(t, other)
	requireError(t, res, body, http.StatusBadRequest, "unknown_host")
}

// One span, one log line and one observation per request, without personal data.
func TestARequestIsRecorded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var forwarded atomic.Value
	f.services["calls"].respond(func(_ http.ResponseWriter, r *http.Request) { forwarded.Store(r.Header.Get("Traceparent")) })
	req := f.agent(t, http.MethodGet, "/calls/0192f0c1-5b7a-7c3e-9d55-0a4f1b2c3d4e?q=asha", nil)
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	res, _ := do(t, req)
	line := f.log.find(t, `"op":"gateway.calls.get"`)
	require.Contains(t, line, `"status":200`)
	require.Contains(t, line, `"request_id":"`+res.Header.Get("X-Request-ID")+`"`)
	for _, private := range []string{"0192f0c1", "asha", "Bearer"} {
		require.NotContains(t, f.log.String(), private)
	}

	spans := f.spans.GetSpans()
	at := slices.IndexFunc(spans, func(s tracetest.SpanStub) bool { return s.Name == "gateway.calls.get" })
	require.GreaterOrEqual(t, at, 0)
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", spans[at].SpanContext.TraceID().String(), "the trace of the app is continued")
	require.Equal(t, "00-0af7651916cd43dd8448eb211c80319c-"+spans[at].SpanContext.SpanID().String()+"-01", forwarded.Load())

	metrics, err := f.tel.Metrics.Gather()
	require.NoError(t, err)
	counted := map[string]uint64{}
	for _, family := range metrics {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			counted[family.GetName()+" "+strings.Join(labels, " ")] += m.GetHistogram().GetSampleCount()
		}
	}
	require.EqualValues(t, 1, counted["convoflow_gateway_request_duration_seconds gateway.calls.get 2xx"])
	require.Contains(t, counted, "convoflow_gateway_requests_in_flight ")
}

// Concurrent requests on reused connections get their own responses.
func TestConcurrentRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.services["calls"].respond(echo)
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	errs := make(chan error, 8)
	var all sync.WaitGroup
	for i := range 8 {
		want := strings.Repeat(strconv.Itoa(i), 50_000)
		requests := []*http.Request{}
		for range 20 {
			requests = append(requests, f.agent(t, http.MethodPost, "/calls/upload", strings.NewReader(want)))
		}
		all.Go(func() {
			for _, req := range requests {
				res, err := transport.RoundTrip(req)
				if err != nil {
					errs <- err
					return
				}
				body, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || string(body) != want {
					errs <- errors.Join(err, errors.New("the response to another request"))
					return
				}
			}
		})
	}
	all.Wait()
	close(errs)
	require.NoError(t, <-errs)
}
