package pabbly_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/network"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/pabbly"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const body = `{"event":"transcription.completed"}`

// timeout is the sender's timeout in tests that do not test timeouts.
const timeout = time.Minute

func sender(t *testing.T, timeout time.Duration, allow ...netip.Prefix) *pabbly.Sender {
	t.Helper()
	s := pabbly.New(pabbly.Options{AllowPrivate: allow, Timeout: timeout, Clock: clock.At(noon)}, telemetry.Nop())
	t.Cleanup(s.Close)
	return s
}

func message(url string, secrets ...string) delivery.Message {
	if len(secrets) == 0 {
		secrets = []string{"s3cret"}
	}
	return delivery.Message{URL: url, Secrets: secrets, Event: "transcription.completed", EventID: "019abc11-0000-7000-8000-00000000000e", Body: []byte(body)}
}

// send sends a message outside a transaction, which always returns an Answer.
func send(t *testing.T, s *pabbly.Sender, ctx context.Context, m delivery.Message) delivery.Answer {
	t.Helper()
	a, err := s.Send(ctx, m)
	require.NoError(t, err)
	return a
}

func mac(key, content string) []byte {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(content))
	return h.Sum(nil)
}

func TestTheRequest(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var sent []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		sent, _ = io.ReadAll(r.Body)
		_, _ = w.Write([]byte(`{"status":"success"}`))
	}))
	t.Cleanup(srv.Close)
	raw := "raw bytes of a key of 32 letters"
	whsec := "whsec_" + base64.StdEncoding.EncodeToString([]byte(raw))
	m := message(srv.URL+"/hook", whsec, "older secret")
	a := send(t, sender(t, timeout, loopback...), t.Context(), m)

	require.Equal(t, 200, *a.StatusCode)
	require.Nil(t, a.Error)
	require.JSONEq(t, `{"status":"success"}`, a.Excerpt)
	require.Len(t, a.TraceID, 32)
	require.Empty(t, cmp.Diff(body, string(sent)), "the exact bytes")
	require.Equal(t, http.MethodPost, got.Method)
	h := got.Header
	require.Equal(t, "application/json", h.Get("Content-Type"))
	require.Equal(t, "Convoflow/test", h.Get("User-Agent"))
	require.Equal(t, "transcription.completed", h.Get("X-Pabbly-Event"))
	require.Contains(t, h.Get("traceparent"), a.TraceID)
	require.Equal(t, m.EventID, h.Get("webhook-id"))
	require.Equal(t, "1795521600", h.Get("webhook-timestamp"))
	require.Equal(t, hex.EncodeToString(mac(whsec, body)), h.Get("X-Pabbly-Signature"))
	signed := m.EventID + ".1795521600." + body
	require.Equal(t, []string{
		"v1," + base64.StdEncoding.EncodeToString(mac(raw, signed)),
		"v1," + base64.StdEncoding.EncodeToString(mac("older secret", signed)),
	}, strings.Fields(h.Get("webhook-signature")))
}

func TestWhatReceiversDo(t *testing.T) {
	t.Parallel()
	var followed atomic.Bool
	write := func(status int, name, value string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if name != "" {
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte("said so"))
		}
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	timeouts := map[string]time.Duration{
		"hang":        300 * time.Millisecond,
		"slow answer": 5 * time.Second, // far more than sending its header takes on a busy machine
	}
	for name, tt := range map[string]struct {
		handler    http.HandlerFunc
		status     int    // 0 for none
		problem    string // empty for a response
		retryAfter time.Duration
	}{
		"204":                   {write(204, "", ""), 204, "", 0},
		"500":                   {write(500, "Retry-After", "60"), 500, "", 0},
		"410":                   {write(410, "", ""), 410, "", 0},
		"429":                   {write(429, "", ""), 429, "", 0},
		"429 with seconds":      {write(429, "Retry-After", "120"), 429, "", 2 * time.Minute},
		"503 with a date":       {write(503, "Retry-After", noon.Add(time.Hour).Format(http.TimeFormat)), 503, "", time.Hour},
		"503 with a past date":  {write(503, "Retry-After", noon.Add(-time.Hour).Format(http.TimeFormat)), 503, "", 0},
		"429 with rubbish":      {write(429, "Retry-After", "soon"), 429, "", 0},
		"429 with a minus":      {write(429, "Retry-After", "-5"), 429, "", 0},
		"redirect":              {write(302, "Location", "/followed"), 302, "", 0},
		"redirect with a body":  {write(307, "Location", "/followed"), 307, "", 0},
		"hang":                  {hang, 0, "timeout", 0},
		"cut before the answer": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, "connection_lost", 0},
		"not HTTP": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_, _ = conn.Write([]byte("220 mail.example.com ESMTP\r\n"))
			_ = conn.Close()
		}, 0, "connection_lost", 0},
		"cut in the answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("half"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 200, "", 0},
		"slow answer": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			hang(w, r)
		}, 200, "", 0},
		"endless headers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
			w.WriteHeader(http.StatusOK)
		}, 0, "connection_lost", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			mux.HandleFunc("/hook", func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then does a server detect that the client has disconnected
				tt.handler(w, r)
			})
			mux.HandleFunc("/followed", func(http.ResponseWriter, *http.Request) { followed.Store(true) })
			srv := httptest.NewServer(mux)
			t.Cleanup(srv.Close)
			limit, ok := timeouts[name]
			if !ok {
				limit = timeout
			}
			a := send(t, sender(t, limit, loopback...), t.Context(), message(srv.URL+"/hook"))
			if tt.status == 0 {
				require.Nil(t, a.StatusCode)
				require.Equal(t, tt.problem, *a.Error)
			} else {
				require.Nil(t, a.Error)
				require.Equal(t, tt.status, *a.StatusCode)
			}
			require.Equal(t, tt.retryAfter, a.RetryAfter)
			require.Positive(t, a.Took)
			require.False(t, followed.Load(), "redirects are not followed")
		})
	}
}

func TestAnEndlessAnswerIsReadToItsLimit(t *testing.T) {
	t.Parallel()
	var written atomic.Int64
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer close(done)
		chunk := []byte(strings.Repeat("é\x00", 1<<10))
		for {
			n, err := w.Write(chunk)
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	a := send(t, sender(t, timeout, loopback...), t.Context(), message(srv.URL))
	<-done
	require.Equal(t, 200, *a.StatusCode)
	require.Less(t, a.Took, timeout/2, "it did not wait for the end")
	require.LessOrEqual(t, len(a.Excerpt), 1024)
	require.NotEmpty(t, a.Excerpt)
	require.Empty(t, strings.Trim(a.Excerpt, "é"), "whole characters, without what PostgreSQL rejects")
	require.Less(t, written.Load(), int64(32<<20))
}

func TestAddressesThatAreNotPublicAreRefused(t *testing.T) {
	t.Parallel()
	var reached atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	require.NoError(t, err)
	s := sender(t, timeout)
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "127.1.2.3",
		"10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "[fe80::1]", "[fd00:ec2::254]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[64:ff9b:1::a9fe:a9fe]", "224.0.0.1", "255.255.255.255",
	} {
		a := send(t, s, t.Context(), message("http://"+host+":"+port))
		require.Nil(t, a.StatusCode, host)
		require.Equal(t, "address_refused", *a.Error, host)
	}
	require.False(t, reached.Load())

	only := sender(t, timeout, netip.MustParsePrefix("10.0.0.0/8"))
	require.Equal(t, "address_refused", *send(t, only, t.Context(), message(srv.URL)).Error, "another network is allowed")
	require.Equal(t, 200, *send(t, sender(t, timeout, netip.MustParsePrefix("127.0.0.1/32")), t.Context(), message(srv.URL)).StatusCode)
}

func TestAProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was used") }))
	t.Cleanup(proxy.Close)
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	a := send(t, sender(t, timeout, loopback...), t.Context(), message("http://webhook.invalid/hook"))
	require.Equal(t, "dns", *a.Error)
}

func TestCertificatesAreVerified(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was sent") }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	require.Equal(t, "tls", *send(t, sender(t, timeout, loopback...), t.Context(), message(srv.URL)).Error)
}

func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.Equal(t, "connect", *send(t, sender(t, timeout, loopback...), t.Context(), message("http://"+l.Addr().String())).Error)
}

func TestAStopEndsARequest(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	ctx, stop := context.WithCancel(t.Context())
	go func() { <-arrived; stop() }()
	a := send(t, sender(t, timeout, loopback...), ctx, message(srv.URL))
	require.Nil(t, a.StatusCode)
	require.Less(t, a.Took, timeout/2)
}

func TestNothingIsSentInsideOfATransaction(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was sent") }))
	t.Cleanup(srv.Close)
	db := pgtest.Open(t)
	err := db.InTx(t.Context(), func(ctx context.Context) error {
		_, err := sender(t, timeout, loopback...).Send(ctx, message(srv.URL))
		return err
	})
	require.ErrorIs(t, err, network.ErrInTransaction)
}

func TestWithoutAGoodSecretNothingIsSent(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was sent") }))
	t.Cleanup(srv.Close)
	for _, secret := range []string{"", "whsec_", "whsec_!!!"} {
		require.Error(t, pabbly.CheckSecret(secret), secret)
		require.Equal(t, "secret_invalid", *send(t, sender(t, timeout, loopback...), t.Context(), message(srv.URL, secret)).Error, secret)
	}
	none := message(srv.URL)
	none.Secrets = nil
	require.Equal(t, "secret_invalid", *send(t, sender(t, timeout, loopback...), t.Context(), none).Error)
	require.NoError(t, pabbly.CheckSecret("any text"))
}

func TestCheckReceiver(t *testing.T) {
	t.Parallel()
	private := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	require.NoError(t, pabbly.CheckReceiver("https://connect.pabbly.com/workflow/sendwebhookdata/abc", nil))
	require.NoError(t, pabbly.CheckReceiver("https://203.0.114.7/hook", nil))
	require.NoError(t, pabbly.CheckReceiver("http://10.0.0.1/hook", private))
	require.NoError(t, pabbly.CheckReceiver("http://crm.internal/hook", private), "its address is looked up when it is dialled")
	for _, url := range []string{"http://10.0.0.1/hook", "http://connect.pabbly.com/x", "https://10.0.0.1/hook", "https://127.0.0.1:9/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/latest"} {
		require.ErrorContains(t, pabbly.CheckReceiver(url, nil), "WEBHOOK_ALLOW_PRIVATE_CIDRS", url)
	}
	require.ErrorContains(t, pabbly.CheckReceiver("http://203.0.114.7/hook", private), "http is for these only")
	for _, url := range []string{"", "connect.pabbly.com/x", "ftp://x/y", "https://user:password@x/y", "https://user@x/y", "http:///x", "http://%zz"} {
		err := pabbly.CheckReceiver(url, private)
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "password@")
	}
}
