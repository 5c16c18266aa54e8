package pabbly_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/pabbly"
)

// The addresses of the tests: webhooks may go to one of them, and the other one counts who comes.
var (
	allowedAddress = netip.MustParseAddr("127.0.0.2")
	canaryAddress  = netip.MustParseAddr("127.0.0.1")
)

// canary counts the connections to a port of 127.0.0.1, which webhooks may not reach.
type canary struct {
	port    string
	reached atomic.Int32
}

// pair returns a canary, and a server with the same port at the allowed address.
func pair(t *testing.T, h http.HandlerFunc) *canary {
	t.Helper()
	l, err := net.Listen("tcp", canaryAddress.String()+":0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	c := &canary{port: port}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.reached.Add(1)
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		accepting.Wait()
	})
	good, err := net.Listen("tcp", allowedAddress.String()+":"+port)
	require.NoError(t, err)
	srv := &httptest.Server{Listener: good, Config: &http.Server{Handler: h}}
	srv.Config.SetKeepAlivesEnabled(false) // each request is dialled
	srv.Start()
	t.Cleanup(srv.Close)
	return c
}

// resolver returns a resolver whose names have the addresses that lookup returns, by the name without its last dot.
func resolver(t *testing.T, lookup func(name string) []netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		packet := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(packet)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			var m dnsmessage.Message
			if err != nil || m.Unpack(packet[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			raw, err := answered(m, lookup).Pack()
			if err == nil {
				_, _ = conn.WriteTo(raw, from)
			}
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		serving.Wait()
	})
	dialer := net.Dialer{}
	r := &net.Resolver{PreferGo: true}
	r.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "udp", conn.LocalAddr().String())
	}
	return r
}

func answered(m dnsmessage.Message, lookup func(string) []netip.Addr) *dnsmessage.Message {
	q := m.Questions[0]
	m.Response, m.Authoritative, m.RecursionAvailable, m.Additionals = true, true, true, nil
	found := lookup(strings.TrimSuffix(q.Name.String(), "."))
	if len(found) == 0 {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, addr := range found {
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
		switch {
		case q.Type == dnsmessage.TypeA && addr.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
		case q.Type == dnsmessage.TypeAAAA && addr.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	return &m
}

func guarded(t *testing.T, r *net.Resolver) *pabbly.Sender {
	t.Helper()
	s := pabbly.New(pabbly.Options{
		AllowPrivate: []netip.Prefix{netip.PrefixFrom(allowedAddress, 32)}, Timeout: timeout, Clock: clock.At(noon), Resolver: r,
	}, telemetry.Nop())
	t.Cleanup(s.Close)
	return s
}

func accepts(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// A name that resolved to an allowed address resolves to a private one the next time.
func TestANameIsCheckedEachTimeItIsDialled(t *testing.T) {
	t.Parallel()
	c := pair(t, accepts)
	var now atomic.Pointer[[]netip.Addr]
	s := guarded(t, resolver(t, func(string) []netip.Addr { return *now.Load() }))
	for _, tt := range []struct {
		addresses string
		problem   string // empty: delivered
	}{
		{"127.0.0.2", ""},
		{"127.0.0.1", "address_refused"},
		{"127.0.0.2", ""},
		{"127.0.0.1 127.0.0.2", ""}, // the second is dialled
		{"::ffff:127.0.0.1", "address_refused"},
		{"64:ff9b::7f00:1", "address_refused"},
		{"2002:7f00:1::", "address_refused"},
		{"::1", "address_refused"},
		{"169.254.169.254", "address_refused"},
		{"10.0.0.1 fd00::1", "address_refused"},
		{"", "dns"},
	} {
		var addresses []netip.Addr
		for text := range strings.FieldsSeq(tt.addresses) {
			addresses = append(addresses, netip.MustParseAddr(text))
		}
		now.Store(&addresses)
		a := send(t, s, t.Context(), message("http://hooks.example.com:"+c.port+"/hook"))
		if tt.problem == "" {
			require.Nil(t, a.Error, tt.addresses)
			require.Equal(t, http.StatusNoContent, *a.StatusCode)
			continue
		}
		require.Equal(t, tt.problem, *a.Error, tt.addresses)
	}
	require.Zero(t, c.reached.Load())
}

// Other spellings of 127.0.0.1 are names at most, and a resolver that knows them changes nothing.
func TestOtherSpellingsOfAnAddress(t *testing.T) {
	t.Parallel()
	c := pair(t, accepts)
	for _, addresses := range [][]netip.Addr{nil, {canaryAddress}} {
		s := guarded(t, resolver(t, func(string) []netip.Addr { return addresses }))
		for _, host := range []string{"2130706433", "0177.0.0.1", "0x7f000001", "127.1", "0177.0.0.01", "017700000001"} {
			for _, scheme := range []string{"http://", "https://"} {
				a := send(t, s, t.Context(), message(scheme+host+":"+c.port+"/"))
				require.Contains(t, []string{"dns", "address_refused"}, *a.Error, scheme+host)
			}
		}
	}
	require.Zero(t, c.reached.Load())
}

func TestARedirectToLoopbackIsNotFollowed(t *testing.T) {
	t.Parallel()
	var c *canary // known to the handler only later
	c = pair(t, func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusFound
		if r.URL.Path == "/again" {
			status = http.StatusPermanentRedirect
		}
		http.Redirect(w, r, "http://127.0.0.1:"+c.port+"/", status)
	})
	for path, status := range map[string]int{"/": http.StatusFound, "/again": http.StatusPermanentRedirect} {
		require.Equal(t, status, *send(t, guarded(t, nil), t.Context(), message("http://127.0.0.2:"+c.port+path)).StatusCode)
	}
	require.Zero(t, c.reached.Load())
}

// Without TLS, webhooks go to allowed private networks only.
func TestPlainHTTPIsForPrivateNetworks(t *testing.T) {
	t.Parallel()
	public := resolver(t, func(string) []netip.Addr { return []netip.Addr{netip.MustParseAddr("8.8.8.8")} })
	for _, host := range []string{"8.8.8.8", "hooks.example.com", "[2001:4860:4860::8888]"} {
		require.Equal(t, "address_refused", *send(t, guarded(t, public), t.Context(), message("http://"+host+"/")).Error, host)
	}
}

func TestErrorsOfTLS(t *testing.T) {
	t.Parallel()
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
	for name, start := range map[string]func(*httptest.Server){
		"self-signed": func(s *httptest.Server) { s.StartTLS() },
		"old version": func(s *httptest.Server) {
			s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
			s.StartTLS()
		},
		"no TLS at all": func(s *httptest.Server) { s.Start() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewUnstartedServer(h)
			srv.Config.ErrorLog = log.New(io.Discard, "", 0)
			start(srv)
			t.Cleanup(srv.Close)
			a := send(t, sender(t, timeout, loopback...), t.Context(), message("https://"+srv.Listener.Addr().String()))
			require.Equal(t, "tls", *a.Error)
		})
	}
}

// drip writes one byte at a time until the client has gone.
func drip(w io.Writer, text string, flush func(), gone <-chan struct{}) {
	for i := 0; ; i++ {
		if _, err := io.WriteString(w, text[i%len(text):i%len(text)+1]); err != nil {
			return
		}
		flush()
		select {
		case <-gone:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// A receiver that sends a byte at a time is cut off at the timeout: without a status if it has sent none.
func TestAByteAtATime(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/body" {
			drip(w, "x", w.(http.Flusher).Flush, r.Context().Done())
			return
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-Long: ")
		drip(conn, "y", func() {}, nil)
	}))
	t.Cleanup(srv.Close)
	s := sender(t, limit, loopback...)
	body := send(t, s, t.Context(), message(srv.URL+"/body"))
	require.Equal(t, http.StatusOK, *body.StatusCode, "only the status counts")
	require.Less(t, body.Took, timeout/2)
	header := send(t, s, t.Context(), message(srv.URL+"/header"))
	require.Equal(t, "timeout", *header.Error)
	require.Less(t, header.Took, timeout/2)
}

func TestConnectionsPerHostAreLimited(t *testing.T) {
	t.Parallel()
	const most, requests = 64, 80
	var current, peak atomic.Int32
	full, release := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		n := current.Add(1)
		for peak.Load() < n && !peak.CompareAndSwap(peak.Load(), n) {
			continue
		}
		if n == most {
			close(full)
		}
		<-release
		current.Add(-1)
	}))
	t.Cleanup(srv.Close)
	s := sender(t, timeout, loopback...)
	var sending sync.WaitGroup
	for range requests {
		sending.Go(func() { send(t, s, t.Context(), message(srv.URL)) })
	}
	<-full
	close(release)
	sending.Wait()
	require.Equal(t, int32(most), peak.Load(), "the others waited for a connection")
}

func TestControlCharactersOfAnAnswerAreRemoved(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "a\x1b[31mred\x00\n\tok\x7f\u0085")
	}))
	t.Cleanup(srv.Close)
	require.Equal(t, "a[31mred\n\tok", send(t, sender(t, timeout, loopback...), t.Context(), message(srv.URL)).Excerpt)
}
