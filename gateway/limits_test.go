package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/gateway/internal/guard"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/outbox"
)

// publish publishes events on the topic of agents, as auth does.
func (f *fixture) publish(t *testing.T, published ...event.Event) {
	t.Helper()
	cfg := bus.Defaults()
	cfg.Brokers = f.brokers
	kafka, err := bus.Connect(cfg, "gateway", events.Topics())
	require.NoError(t, err)
	defer kafka.Close()
	var messages []outbox.Message
	for _, e := range published {
		messages = append(messages, outbox.Message{Event: e})
	}
	bustest.Publish(t, kafka, events.AgentsTopic, messages)
}

func sign(t *testing.T, f *fixture, c identity.Caller) string {
	t.Helper()
	text, err := f.signer.Sign(c, time.Hour)
	require.NoError(t, err)
	return "Bearer " + text
}

func newCaller() identity.Caller {
	return identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: identity.Agent}
}

// call calls an operation with that token and returns its status and error code.
func (f *fixture) call(t *testing.T, method, path, bearer string) (int, string) {
	t.Helper()
	req := f.request(t, method, path, nil)
	req.Header.Set("Authorization", bearer)
	res, body := do(t, req)
	var response struct{ Code string }
	_ = json.Unmarshal([]byte(body), &response)
	return res.StatusCode, response.Code
}

func TestAnEndedSessionIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	one, other, dismissed := newCaller(), newCaller(), newCaller()
	other.AgentID = one.AgentID
	bearers := map[string]string{"one": sign(t, f, one), "other": sign(t, f, other), "dismissed": sign(t, f, dismissed)}
	for who, bearer := range bearers {
		status, _ := f.call(t, http.MethodGet, "/calls", bearer)
		require.Equal(t, http.StatusOK, status, who)
	}
	now := time.Now()
	agent := events.Agent{AgentID: dismissed.AgentID, Version: 2, Role: "agent"}
	f.publish(t,
		events.SessionRevoked.New(now, events.SessionEnd{AgentID: one.AgentID, SessionID: one.SessionID, Reason: "logout", RevokedAt: now}),
		events.AgentDeactivated.New(now, agent))
	for _, who := range []string{"one", "dismissed"} {
		require.Eventually(t, func() bool {
			status, code := f.call(t, http.MethodGet, "/calls", bearers[who])
			return status == http.StatusUnauthorized && code == "session_ended"
		}, timeout, 5*time.Millisecond, who)
	}
	status, _ := f.call(t, http.MethodGet, "/calls", bearers["other"])
	require.Equal(t, http.StatusOK, status, "another session of the same agent is still active")

	agent.IsActive, agent.Version = true, 3
	f.publish(t, events.AgentUpdated.New(now, agent))
	require.Eventually(t, func() bool {
		status, _ := f.call(t, http.MethodGet, "/calls", sign(t, f, identity.Caller{AgentID: dismissed.AgentID, SessionID: event.NewID(), Role: identity.Agent}))
		return status == http.StatusOK
	}, timeout, 5*time.Millisecond)
}

// A new gateway reads the sessions that ended before it started. Until then it refuses every token.
func TestAStartingGatewayReadsPastSessionEnds(t *testing.T) {
	t.Parallel()
	ended := newCaller()
	f := newFixture(t, func(c *Config) {
		earlier := &fixture{brokers: c.Kafka.Brokers}
		earlier.publish(t, events.SessionRevoked.New(time.Now(), events.SessionEnd{AgentID: ended.AgentID, SessionID: ended.SessionID}))
	})
	status, code := f.call(t, http.MethodGet, "/calls", sign(t, f, ended))
	require.Equal(t, http.StatusUnauthorized, status)
	require.Equal(t, "session_ended", code)

	cfg := Defaults()
	cfg.HTTP.Addr, cfg.Admin.Addr, cfg.Kafka.Brokers = "127.0.0.1:0", "127.0.0.1:0", []string{"127.0.0.1:1"}
	cfg.Access.AuthURL, cfg.CallsURL, cfg.CRMURL, cfg.NotifyURL = f.services["auth"].server.URL, f.url, f.url, f.url
	f.tel.Metrics = prometheus.NewRegistry()
	isolated := f.run(t, cfg)
	require.Eventually(t, func() bool {
		isolated := &fixture{url: "http://" + isolated.Addr()}
		status, code := isolated.call(t, http.MethodGet, "/calls", sign(t, f, newCaller()))
		return status == http.StatusServiceUnavailable && code == "auth_unavailable"
	}, timeout, 5*time.Millisecond)
	require.Error(t, isolated.Ready(t.Context()))
}

func TestRateLimitsOfAgentsAndAddresses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) {
		c.Rates = Rates{Login: 3, Read: 5, Write: 5, AddressFactor: 2}
		c.TrustedProxies = []string{"127.0.0.0/8"}
	})
	from := func(address, method, path, bearer string) (*http.Response, string) {
		req := f.request(t, method, path, nil)
		req.Header.Set("X-Forwarded-For", address)
		if bearer != "" {
			req.Header.Set("Authorization", bearer)
		}
		return do(t, req)
	}
	agent := sign(t, f, newCaller())
	for left := 4; left >= 0; left-- {
		res, body := from("203.0.113.1", http.MethodGet, "/calls", agent)
		require.Equal(t, http.StatusOK, res.StatusCode, body)
		require.Equal(t, "5", res.Header.Get("RateLimit-Limit"))
		require.Equal(t, strconv.Itoa(left), res.Header.Get("RateLimit-Remaining"))
		require.NotEmpty(t, res.Header.Get("RateLimit-Reset"))
	}
	res, body := from("203.0.113.1", http.MethodGet, "/calls", agent)
	requireError(t, res, body, http.StatusTooManyRequests, "rate_limited")
	wait, err := strconv.Atoi(res.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.InDelta(t, 12, wait, 1, "one token is added every 12 s")
	require.Equal(t, "0", res.Header.Get("RateLimit-Remaining"))
	res, body = from("203.0.113.2", http.MethodGet, "/calls", agent)
	requireError(t, res, body, http.StatusTooManyRequests, "rate_limited")
	res, body = from("203.0.113.1", http.MethodPost, "/clients", agent)
	require.Equal(t, http.StatusOK, res.StatusCode, "another class: "+body)

	for range 4 { // the address has used 6 of 10 reads
		res, body = from("203.0.113.1", http.MethodGet, "/calls", sign(t, f, newCaller()))
		require.Equal(t, http.StatusOK, res.StatusCode, body)
	}
	res, body = from("203.0.113.1", http.MethodGet, "/calls", "Bearer nonsense")
	requireError(t, res, body, http.StatusTooManyRequests, "rate_limited")

	for n, address := range []string{"2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"} {
		res, body = from(address, http.MethodPost, "/auth/login", "")
		require.Equal(t, http.StatusOK, res.StatusCode, "%d: %s", n, body)
	}
	res, body = from("2001:db8::4", http.MethodPost, "/auth/login", "")
	requireError(t, res, body, http.StatusTooManyRequests, "rate_limited")
	res, _ = from("2001:db8:0:1::1", http.MethodPost, "/auth/login", "")
	require.Equal(t, http.StatusOK, res.StatusCode, "another subscriber's /64")
	require.Contains(t, f.metrics(t, "convoflow_gateway_rate_limited_total"), `{by="agent",class="read"} 2`)
}

func TestAnOverloadedServiceGetsNoMoreRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Upstreams.MaxRequests = 3 })
	release, entered := make(chan struct{}), make(chan struct{}, 3)
	f.services["crm"].respond(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-release
		w.Header().Set("Content-Type", "application/json")
	})
	var waiting sync.WaitGroup
	for range 3 {
		waiting.Go(func() {
			res, _ := do(t, f.agent(t, http.MethodGet, "/clients", nil))
			require.Equal(t, http.StatusOK, res.StatusCode)
		})
	}
	for range 3 {
		<-entered
	}
	res, body := do(t, f.agent(t, http.MethodGet, "/followups", nil)) // all routes of a service share its slots
	requireError(t, res, body, http.StatusServiceUnavailable, "overloaded")
	require.Equal(t, "1", res.Header.Get("Retry-After"))
	res, _ = do(t, f.agent(t, http.MethodGet, "/calls", nil))
	require.Equal(t, http.StatusOK, res.StatusCode, "the other services are not affected")
	close(release)
	waiting.Wait()
	res, _ = do(t, f.agent(t, http.MethodGet, "/calls", nil))
	require.Equal(t, http.StatusOK, res.StatusCode)
}

func TestTheBreakerOpensAndCloses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	address := f.services["crm"].server.Listener.Addr().String()
	f.services["crm"].server.Close()
	refused := func() string { return f.metrics(t, "convoflow_gateway_upstream_refused_total") }
	require.Eventually(t, func() bool {
		res, body := do(t, f.agent(t, http.MethodGet, "/clients", nil))
		requireError(t, res, body, http.StatusServiceUnavailable, "service_unavailable")
		return strings.Contains(refused(), `reason="circuit_open"`)
	}, timeout, time.Millisecond)
	// The service restarts at its address, and the breaker closes.
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	back := &httptest.Server{Listener: listener, Config: &http.Server{Handler: echoID(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
	})}}
	back.Start()
	t.Cleanup(back.Close)
	require.Eventually(t, func() bool {
		res, _ := do(t, f.agent(t, http.MethodGet, "/clients", nil))
		return res.StatusCode == http.StatusOK
	}, timeout, 20*time.Millisecond)
}

// A GET is retried when the connection breaks; a request that may have had an effect is not.
func TestOnlyGETsAreRetried(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var cuts, got atomic.Int64
	f.services["crm"].respond(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got.Add(1)
		if cuts.Add(-1) >= 0 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "application/json")
	})
	for _, c := range []struct {
		method, path, body string
		cuts               int64
		status             int
		tries              int64
	}{
		{"GET", "/clients", "", 1, 200, 2},
		{"GET", "/clients", "", 2, 503, 2},
		{"POST", "/clients", "{}", 1, 503, 1},
		{"DELETE", "/clients/" + event.NewID(), "", 1, 503, 1},
	} {
		cuts.Store(c.cuts)
		got.Store(0)
		var sent io.Reader
		if c.body != "" {
			sent = strings.NewReader(c.body)
		}
		res, body := do(t, f.agent(t, c.method, c.path, sent))
		require.Equal(t, c.status, res.StatusCode, "%v: %s", c, body)
		require.Equal(t, c.tries, got.Load(), "%v", c)
	}
}

// raw is a service that sends these bytes and closes the connection.
func raw(t *testing.T, response string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = http.ReadRequest(bufio.NewReader(conn))
				_, _ = io.WriteString(conn, response)
				_ = conn.Close()
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

func TestInvalidResponses(t *testing.T) {
	t.Parallel()
	for response, want := range map[string]int{
		"I am no HTTP server\r\n\r\n":                         http.StatusBadGateway,
		"HTTP/1.1 200 OK\r\nContent-Len":                      http.StatusBadGateway,
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n : \r\n\r\n": http.StatusBadGateway,
		"": http.StatusServiceUnavailable,
	} {
		f := newFixture(t, func(c *Config) { c.CRMURL = raw(t, response) })
		res, body := do(t, f.agent(t, http.MethodGet, "/clients", nil))
		code := map[int]string{http.StatusBadGateway: "bad_gateway", http.StatusServiceUnavailable: "service_unavailable"}[want]
		requireError(t, res, body, want, code)
		require.Equal(t, "2", res.Header.Get("Retry-After"))
	}
}

// Clients that disconnect while sending their body do not open the breaker.
func TestClientErrorsDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for range 8 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "POST /calls/upload HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: multipart/form-data\r\nContent-Length: 100\r\n\r\n{", sign(t, f, newCaller()))
		require.NoError(t, err)
		inFlight := func(n string) func() bool {
			return func() bool {
				return strings.Contains(f.metrics(t, "convoflow_gateway_upstream_in_flight"), `{kind="upload",upstream="calls"} `+n+"\n")
			}
		}
		require.Eventually(t, inFlight("1"), timeout, time.Millisecond)
		require.NoError(t, conn.Close())
		require.Eventually(t, inFlight("0"), timeout, time.Millisecond)
	}
	res, body := do(t, f.agent(t, http.MethodGet, "/calls", nil))
	require.Equal(t, http.StatusOK, res.StatusCode, body)
	require.NotContains(t, f.metrics(t, "convoflow_gateway_upstream_refused_total"), `reason="circuit_open"`)
}

// dial opens a connection to the gateway and sends these bytes.
func (f *fixture) dial(t *testing.T, format string, args ...any) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(beforeStall)))
	_, err = fmt.Fprintf(conn, format, args...)
	require.NoError(t, err)
	return conn, bufio.NewReader(conn)
}

// A client that sends a small body slowly or invalidly gets an error and takes no slot of the service.
func TestIncompleteBodies(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Upstreams.MaxRequests = 1 })
	for range 3 {
		f.dial(t, "POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nusername")
		f.dial(t, "GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n{")
	}
	status, _ := f.call(t, http.MethodPost, "/auth/login", "")
	require.Equal(t, http.StatusOK, status)
	for _, path := range []string{"/clients", "/calls/upload"} {
		conn, in := f.dial(t, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", path, sign(t, f, newCaller()))
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err, path)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		requireError(t, res, string(body), http.StatusBadRequest, "incomplete_body")
		_ = conn.Close()
	}
}

// When the half-open probe is a long upload, the breaker does not wait for its end.
func TestALongUploadAsTheHalfOpenProbe(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	address := f.services["calls"].server.Listener.Addr().String()
	f.services["calls"].server.Close()
	require.Eventually(t, func() bool {
		f.call(t, http.MethodGet, "/calls", sign(t, f, newCaller()))
		return strings.Contains(f.metrics(t, "convoflow_gateway_upstream_refused_total"), `reason="circuit_open",upstream="calls"`)
	}, timeout, time.Millisecond)
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	back := &httptest.Server{Listener: listener, Config: &http.Server{Handler: echoID(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
	})}}
	back.Start()
	t.Cleanup(back.Close)
	require.Eventually(t, func() bool { // the upload is the probe, and never ends
		f.dial(t, "POST /calls/upload HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: multipart/form-data\r\nContent-Length: 100000\r\n\r\n%05000d", sign(t, f, newCaller()), 0)
		return strings.Contains(f.metrics(t, "convoflow_gateway_upstream_in_flight"), `{kind="upload",upstream="calls"} 1`)
	}, timeout, 100*time.Millisecond)
	require.Eventually(t, func() bool {
		status, _ := f.call(t, http.MethodGet, "/calls", sign(t, f, newCaller()))
		return status == http.StatusOK
	}, beforeStall, 10*time.Millisecond)
}

func TestTheStreamsOfAnAgentAreLimited(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	busy := sign(t, f, newCaller())
	for n := range guard.MaxStreams {
		f.dial(t, "POST /calls/upload HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: multipart/form-data\r\nContent-Length: 100000\r\n\r\n", busy)
		require.Eventually(t, func() bool {
			return strings.Contains(f.metrics(t, "convoflow_gateway_upstream_in_flight"), fmt.Sprintf(`{kind="upload",upstream="calls"} %d`, n+1))
		}, timeout, time.Millisecond)
	}
	status, code := f.call(t, http.MethodPost, "/calls/upload", busy)
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Equal(t, "too_many_streams", code)
	status, _ = f.call(t, http.MethodPost, "/calls/upload", sign(t, f, newCaller()))
	require.Equal(t, http.StatusOK, status, "another agent")
	status, _ = f.call(t, http.MethodGet, "/calls", busy)
	require.Equal(t, http.StatusOK, status)
}

// Bytes of a response body that look like an error of net/http are not replaced.
func TestAResponseThatLooksLikeAServerError(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	const piece = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n431"
	f.services["calls"].respond(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(8192+len(piece)))
		_, _ = io.WriteString(w, strings.Repeat("x", 8192))
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, piece)
	})
	conn, in := f.dial(t, "")
	for range 2 {
		_, err := fmt.Fprintf(conn, "GET /calls/%s/audio HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", event.NewID(), sign(t, f, newCaller()))
		require.NoError(t, err)
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, piece, string(body[8192:]))
	}
	_, err := io.WriteString(conn, "nonsense\r\n\r\n") // between responses, errors of net/http are replaced
	require.NoError(t, err)
	res, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	requireError(t, res, string(body), http.StatusBadRequest, "malformed_request")
}

func TestServicesOverHTTP2(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) {
		server := httptest.NewUnstartedServer(echoID(func(w http.ResponseWriter, r *http.Request) {
			sent, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, "%q", r.Proto+string(sent))
		}))
		server.Config.Protocols = &http.Protocols{}
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
		t.Cleanup(server.Close)
		c.Upstreams.Protocol, c.CRMURL = "h2c", server.URL
	})
	res, body := do(t, f.agent(t, http.MethodPost, "/clients", strings.NewReader(" sent")))
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, `"HTTP/2.0 sent"`, body)
}

// Malformed requests, which net/http refuses itself, get a JSON error too.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for sent, want := range map[string]struct {
		status int
		code   string
	}{
		"nonsense\r\n\r\n":       {400, "malformed_request"},
		"GET / HTTP/1.1\r\n\r\n": {400, "malformed_request"},
		"GET /calls HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab":       {400, "malformed_request"},
		"POST /calls HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n": {400, "malformed_request"},
		"POST /calls HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n":          {400, "malformed_request"},
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n":                                                    {404, "not_found"},
		"GET /calls HTTP/1.1\r\nHost: x\r\nExpect: foo\r\n\r\n":                                    {400, "malformed_request"},
		"GET /calls HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n":                                        {400, "malformed_request"},
		"GET /calls HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", 64<<10) + "\r\n\r\n":    {431, "header_too_large"},
		"GET /calls HTTP/1.1\r\nHost: x\r\nA: b\r\n c: d\r\n\r\n":                                  {401, "not_authenticated"},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(timeout)))
		_, err = io.WriteString(conn, sent)
		require.NoError(t, err)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, "%.60q", sent)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		requireError(t, res, string(body), want.status, want.code)
		requireSecure(t, res)
		require.NoError(t, conn.Close())
	}
}

// The admin port shows the configuration without secrets.
func TestTheAdminPortShowsTheSettings(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := newFixture(t, func(c *Config) { c.Admin.Listener, c.Kafka.Password = listener, "hunter2" })
	res, body := do(t, (&fixture{url: "http://" + listener.Addr().String()}).request(t, http.MethodGet, "/config", nil))
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Contains(t, body, "RATE_LIMIT_READ_PER_MINUTE")
	require.NotContains(t, body, "hunter2")
	status, _ := f.call(t, http.MethodGet, "/config", sign(t, f, newCaller()))
	require.Equal(t, http.StatusNotFound, status, "not through the gateway")
}
