package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/gateway/internal/guard"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/rpc"
)

// gauge returns the value of a metric without labels, or of the series with these labels.
func (f *fixture) gauge(t *testing.T, name, labels string) int {
	t.Helper()
	for line := range strings.Lines(f.metrics(t, name)) {
		if value, ok := strings.CutPrefix(line, name+labels+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			require.NoError(t, err)
			return int(n)
		}
	}
	return 0
}

// Clients without a token that each send a part of a body share the memory for bodies; the others are refused until they have left.
func TestBodiesInMemoryShareABudget(t *testing.T) {
	t.Parallel()
	const limit, clients, sent = 1 << 20, 300, 12 << 10
	f := newFixture(t, func(c *Config) {
		c.HTTP.BodyMemoryMB, c.Rates.Login = limit>>20, 0
		c.Clients.Window = time.Hour
	})
	held := func() int { return f.gauge(t, "convoflow_gateway_body_memory_bytes", "") }
	conns := make(chan net.Conn, clients)
	refused := make(chan error, clients)
	var all sync.WaitGroup
	for range clients {
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
		require.NoError(t, err)
		conns <- conn
		_, err = fmt.Fprintf(conn, "POST /auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 16000\r\n\r\n%s", strings.Repeat("x", sent))
		require.NoError(t, err)
		all.Go(func() {
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return // one that is held has no response
			}
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || !strings.Contains(string(body), `"overloaded"`) {
				err = fmt.Errorf("%d %s", res.StatusCode, body)
			}
			refused <- err
		})
	}
	for range clients - limit/sent { // 12 kB are in a buffer of 16 kB
		require.NoError(t, <-refused)
		require.LessOrEqual(t, held(), limit)
	}
	require.Positive(t, held())
	status, _ := f.call(t, http.MethodGet, "/calls", sign(t, f, newCaller()))
	require.Equal(t, http.StatusOK, status, "requests without a body are served")
	for range clients {
		_ = (<-conns).Close()
	}
	all.Wait()
	require.Eventually(t, func() bool { return held() == 0 }, timeout, time.Millisecond)
	status, _ = f.call(t, http.MethodPost, "/auth/login", "")
	require.Equal(t, http.StatusOK, status)
}

// Two lengths are refused before a service sees the request, and what follows is not a request.
func TestContentLengthWithTransferEncodingIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	bearer := sign(t, f, newCaller())
	smuggled := "GET /calls HTTP/1.1\r\nHost: a\r\nAuthorization: " + bearer + "\r\n\r\n"
	for _, both := range []string{"Content-Length: 4\r\nTransfer-Encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 4"} {
		for _, before := range []string{"", "GET /health HTTP/1.1\r\nHost: a\r\n\r\n"} {
			conn, in := f.dial(t, "%sPOST /clients HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\n%s\r\n\r\n0\r\n\r\n%s", before, bearer, both, smuggled)
			if before != "" {
				requireStatus(t, in, http.StatusOK)
			}
			res, err := http.ReadResponse(in, nil)
			require.NoError(t, err)
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			requireError(t, res, string(body), http.StatusBadRequest, "malformed_request")
			require.True(t, res.Close)
			_, err = in.ReadByte()
			require.ErrorIs(t, err, io.EOF)
			require.NoError(t, conn.Close())
		}
	}
	require.Zero(t, f.services["crm"].calls.Load())
	require.Zero(t, f.services["calls"].calls.Load())
}

// A client that stalls in its body gets 408, and is not logged as one that has disconnected.
func TestAClientThatStallsGets408(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Clients.Window = time.Second })
	f.services["calls"].respond(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	for path, body := range map[string]string{
		"/clients":              "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
		"/calls/upload":         "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n--x\r\n",
		"/calls/upload?chunked": "Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n--x\r\n\r\n",
	} {
		_, in := f.dial(t, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n%s", path, sign(t, f, newCaller()), body)
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err, path)
		raw, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		requireError(t, res, string(raw), http.StatusRequestTimeout, "request_timeout")
		require.True(t, res.Close)
	}
	f.log.find(t, `"op":"gateway.calls.upload"`, `"status":408`, `"code":"request_timeout"`)
}

// Uploads that take all their places leave those of recordings and event streams alone.
func TestUploadsAndDownloadsHavePlacesApart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Upstreams.MaxUploads, c.Upstreams.MaxStreams = 2, 2 })
	release := make(chan struct{})
	f.services["calls"].respond(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-release
		}
	})
	audio := "/calls/" + event.NewID() + "/audio"
	open := func(kind string, n int) {
		require.Eventually(t, func() bool {
			return f.gauge(t, "convoflow_gateway_upstream_in_flight", `{kind="`+kind+`",upstream="calls"}`) == n
		}, timeout, time.Millisecond)
	}
	for n := range 2 {
		f.dial(t, "POST /calls/upload HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: multipart/form-data\r\nContent-Length: 100000\r\n\r\n", sign(t, f, newCaller()))
		open("upload", n+1)
	}
	status, code := f.call(t, http.MethodPost, "/calls/upload", sign(t, f, newCaller()))
	require.Equal(t, []any{http.StatusServiceUnavailable, "overloaded"}, []any{status, code})
	for n := range 2 {
		_, in := f.dial(t, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", audio, sign(t, f, newCaller()))
		_, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		open("download", n+1)
	}
	status, code = f.call(t, http.MethodGet, audio, sign(t, f, newCaller()))
	require.Equal(t, []any{http.StatusServiceUnavailable, "overloaded"}, []any{status, code})
	close(release)
}

// Many accounts at one address cannot take all places of a service.
func TestTheStreamsOfAnAddressAreLimited(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) {
		c.Rates = Rates{AddressFactor: 2}
		c.TrustedProxies = []string{"127.0.0.0/8"}
	})
	for n := range 2 * guard.MaxStreams {
		f.dial(t, "POST /calls/upload HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.1\r\nAuthorization: %s\r\nContent-Type: multipart/form-data\r\nContent-Length: 100000\r\n\r\n", sign(t, f, newCaller()))
		require.Eventually(t, func() bool {
			return f.gauge(t, "convoflow_gateway_upstream_in_flight", `{kind="upload",upstream="calls"}`) == n+1
		}, timeout, time.Millisecond)
	}
	for address, want := range map[string]int{"203.0.113.1": http.StatusTooManyRequests, "203.0.113.2": http.StatusOK} {
		req := f.agent(t, http.MethodPost, "/calls/upload", strings.NewReader("x"))
		req.Header.Set("X-Forwarded-For", address)
		res, body := do(t, req)
		require.Equal(t, want, res.StatusCode, body)
	}
}

// A response with the id of another request, or without one, is not forwarded, and its connection is not used again.
func TestTheResponseToAnotherRequestIsNotForwarded(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]string{"another": "the-request-before", "none": ""} {
		for _, protocol := range []string{http1, h2c} {
			closed, mode := make(chan struct{}, 10), make(chan string, 1)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("X-Request-ID", r.Header.Get("X-Request-ID"))
				select {
				case id := <-mode:
					w.Header().Set("X-Request-ID", id)
				default:
				}
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"secret":"of another agent"}`)
			}))
			server.Config.Protocols = &http.Protocols{}
			server.Config.Protocols.SetHTTP1(protocol == http1)
			server.Config.Protocols.SetUnencryptedHTTP2(protocol == h2c)
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateClosed {
					closed <- struct{}{}
				}
			}
			server.Start()
			t.Cleanup(server.Close)
			f := newFixture(t, func(c *Config) { c.Upstreams.Protocol, c.CallsURL = protocol, server.URL })
			for _, path := range []string{"/calls", "/calls/" + event.NewID() + "/audio"} {
				mode <- id
				res, body := do(t, f.agent(t, http.MethodGet, path, nil))
				requireError(t, res, body, http.StatusBadGateway, "bad_gateway")
				require.NotContains(t, body, "secret", name)
				if protocol == http1 { // in HTTP/2 a response belongs to a stream, not to a connection
					<-closed
				}
				status, _ := f.call(t, http.MethodGet, path, sign(t, f, newCaller()))
				require.Equal(t, http.StatusOK, status)
			}
		}
	}
}

// Clients choose the X-Request-ID, and all of those with the same one could get each other's late responses. The gateway compares an
// id of its own, which a service of the release before does not return.
func TestTheRequestIDOfAClientDoesNotIdentifyAnExchange(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{http1, h2c} {
		ids, echo := make(chan string, 10), make(chan string, 1) // what the service receives and returns
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ids <- r.Header.Get(rpc.ExchangeIDHeader)
			w.Header().Set("X-Request-ID", r.Header.Get("X-Request-ID"))
			if id := <-echo; id == "right" {
				w.Header().Set(rpc.ExchangeIDHeader, r.Header.Get(rpc.ExchangeIDHeader))
			} else if id != "" {
				w.Header().Set(rpc.ExchangeIDHeader, id)
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"secret":"of another agent"}`)
		}))
		server.Config.Protocols = &http.Protocols{}
		server.Config.Protocols.SetHTTP1(protocol == http1)
		server.Config.Protocols.SetUnencryptedHTTP2(protocol == h2c)
		server.Start()
		t.Cleanup(server.Close)
		f := newFixture(t, func(c *Config) { c.Upstreams.Protocol, c.CallsURL = protocol, server.URL })
		for _, path := range []string{"/calls", "/calls/" + event.NewID() + "/audio"} {
			send := func(returned string) (*http.Response, string) {
				echo <- returned
				req := f.agent(t, http.MethodGet, path, nil)
				req.Header.Set("X-Request-ID", "always-the-same")
				req.Header.Set(rpc.ExchangeIDHeader, "chosen-by-the-client")
				return do(t, req)
			}
			res, body := send("right")
			require.Equal(t, http.StatusOK, res.StatusCode, body)
			require.Empty(t, res.Header.Values(rpc.ExchangeIDHeader))
			former := <-ids
			require.NotEmpty(t, former)
			require.NotEqual(t, "chosen-by-the-client", former)
			for _, wrong := range []string{former, "chosen-by-the-client"} {
				res, body = send(wrong)
				requireError(t, res, body, http.StatusBadGateway, "bad_gateway")
				require.NotContains(t, body, "secret")
				require.NotEqual(t, former, <-ids)
			}
			res, body = send("")
			require.Equal(t, http.StatusOK, res.StatusCode, body)
			<-ids
		}
	}
}
