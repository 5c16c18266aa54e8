package inbox_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/platform/internal/inbox"
)

const secret, token, reader = "a secret of the inbox", "token", "token of a reader"

func open(t *testing.T, file string) *inbox.Inbox {
	t.Helper()
	in, err := inbox.Open(file, inbox.Secrets{Path: token, Signing: secret, Reader: reader}, clock.System{})
	require.NoError(t, err)
	t.Cleanup(in.Close)
	return in
}

// deliver sends a webhook with the signatures of notify. It does not use notify's code.
func deliver(t *testing.T, h http.Handler, path, body, pabbly string) *httptest.ResponseRecorder {
	t.Helper()
	now := time.Now()
	verifier, err := standardwebhooks.NewWebhookRaw([]byte(secret))
	require.NoError(t, err)
	signature, err := verifier.Sign("event-1", now, []byte(body))
	require.NoError(t, err)
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("X-Pabbly-Event", "followup.scheduled")
	req.Header.Set("X-Pabbly-Signature", pabbly)
	req.Header.Set("webhook-id", "event-1")
	req.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("webhook-signature", signature)
	return serve(h, req)
}

func serve(h http.Handler, req *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func sign(body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, body)
	return hex.EncodeToString(mac.Sum(nil))
}

func get(path, from string) *http.Request {
	req := httptest.NewRequest(http.MethodGet, path, nil)
	req.RemoteAddr, req.Host = from, "localhost:8000"
	return req
}

func list(t *testing.T, h http.Handler) []inbox.Delivery {
	t.Helper()
	rec := serve(h, get("/inbox/deliveries", "127.0.0.1:5000"))
	require.Equal(t, http.StatusOK, rec.Code)
	var out []inbox.Delivery
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &out))
	return out
}

func TestADeliveryIsStoredAndItsSignaturesAreVerified(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "inbox.jsonl")
	in := open(t, file)
	body := `{"event":"followup.scheduled"}`
	require.Equal(t, http.StatusOK, deliver(t, in.Handler(), in.Path(), body, sign(body)).Code)
	require.Equal(t, http.StatusOK, deliver(t, in.Handler(), in.Path(), body, sign("another body")).Code)
	in.Close()

	again := open(t, file) // after a restart
	got := list(t, again.Handler())
	require.Len(t, got, 2)
	require.Equal(t, inbox.Signatures{Pabbly: false, Standard: true}, got[0].Signatures, "newest first, with the wrong signature")
	require.True(t, got[1].Signatures.Valid())
	require.Equal(t, body, got[1].Body)
	require.Equal(t, "event-1", got[1].EventID)

	page := serve(again.Handler(), get("/inbox", "[::1]:5000")).Body.String()
	require.Contains(t, page, "signatures valid")
	require.Contains(t, page, "signature wrong")
}

func TestOnlyTheSecretPathReceivesWebhooks(t *testing.T) {
	t.Parallel()
	in := open(t, filepath.Join(t.TempDir(), "inbox.jsonl"))
	require.Equal(t, http.StatusNotFound, deliver(t, in.Handler(), "/inbox/hooks/guess", "{}", "").Code)
	require.Equal(t, http.StatusBadRequest, deliver(t, in.Handler(), in.Path(), strings.Repeat("x", 70<<10), "").Code)
	require.Empty(t, list(t, in.Handler()))
}

func TestOnlyThisMachineCanReadTheInbox(t *testing.T) {
	t.Parallel()
	in := open(t, filepath.Join(t.TempDir(), "inbox.jsonl"))
	for _, path := range []string{"/inbox", "/inbox/deliveries"} {
		require.Equal(t, http.StatusForbidden, serve(in.Handler(), get(path, "192.0.2.1:5000")).Code)
		rebound := get(path, "127.0.0.1:5000")
		rebound.Host = "evil.example:8000"
		require.Equal(t, http.StatusForbidden, serve(in.Handler(), rebound).Code, "DNS rebinding")
		require.Equal(t, http.StatusOK, serve(in.Handler(), get(path, "127.0.0.1:5000")).Code)
		for name, value := range map[string]string{
			"Via": "1.1 proxy", "Forwarded": "for=127.0.0.1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost", "X-Forwarded-Port": "80",
		} {
			proxied := get(path, "127.0.0.1:5000")
			proxied.Header.Set(name, value)
			require.Equal(t, http.StatusForbidden, serve(in.Handler(), proxied).Code, "a proxy on this machine: %s", name)
		}
	}
}

func TestAReaderOnAnotherMachineNeedsTheToken(t *testing.T) {
	t.Parallel()
	in := open(t, filepath.Join(t.TempDir(), "inbox.jsonl"))
	for path, status := range map[string]int{"/inbox": 403, "/inbox?token=": 403, "/inbox?token=guess": 403, "/inbox?token=" + token: 403, "/inbox?token=" + url.QueryEscape(reader): 200} {
		require.Equal(t, status, serve(in.Handler(), get(path, "192.0.2.1:5000")).Code, path)
	}
	first := serve(in.Handler(), get("/inbox?token="+url.QueryEscape(reader), "192.0.2.1:5000"))
	cookies := first.Result().Cookies()
	require.Len(t, cookies, 1)
	require.True(t, cookies[0].HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, cookies[0].SameSite)
	again := get("/inbox/deliveries", "192.0.2.1:5000")
	again.AddCookie(cookies[0])
	require.Equal(t, http.StatusOK, serve(in.Handler(), again).Code, "the page fetches deliveries with the cookie")
	bearer := get("/inbox/deliveries", "192.0.2.1:5000")
	bearer.Header.Set("Authorization", "Bearer "+reader)
	require.Equal(t, http.StatusOK, serve(in.Handler(), bearer).Code)
}

// The gateway removes trailing slashes, so a redirect that adds one would never end.
func TestStaticFilesAreServedWithoutRedirects(t *testing.T) {
	t.Parallel()
	in := open(t, filepath.Join(t.TempDir(), "inbox.jsonl"))
	for path, status := range map[string]int{
		"/inbox/static": 404, "/inbox/static/": 404, "/inbox/static/inbox.js": 200, "/inbox/static/inbox.css": 200, "/inbox/static/icon.svg": 200,
		"/inbox/static/inbox.html": 404, "/inbox/static/index.html": 404, "/inbox/static/none": 404,
	} {
		require.Equal(t, status, serve(in.Handler(), get(path, "192.0.2.1:5000")).Code, path)
	}
}

func TestTheTextOfADeliveryIsEscaped(t *testing.T) {
	t.Parallel()
	in := open(t, filepath.Join(t.TempDir(), "inbox.jsonl"))
	body := `{"summary":"</pre><script>alert(1)</script>"}`
	require.Equal(t, http.StatusOK, deliver(t, in.Handler(), in.Path(), body, sign(body)).Code)
	require.NotContains(t, serve(in.Handler(), get("/inbox", "127.0.0.1:5000")).Body.String(), "<script>alert")
}

func TestTheButtonSendsASignedLead(t *testing.T) {
	t.Parallel()
	type sent struct{ body, signature, host string }
	received := make(chan sent, 10)
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		received <- sent{string(raw), r.Header.Get("X-Pabbly-Signature"), r.Host}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"lead-1"}`)
	}))
	t.Cleanup(platform.Close)
	in := open(t, filepath.Join(t.TempDir(), "inbox.jsonl"))
	press := func(header ...string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(http.MethodPost, "http://localhost:8000/inbox/lead", nil)
		req.RemoteAddr = "127.0.0.1:5000"
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		return serve(in.Handler(), req)
	}
	require.Equal(t, http.StatusNotFound, press().Code, "no button without a sender")
	in.SendLeads(inbox.Sender{URL: platform.URL, Secret: secret})
	got := press()
	require.Equal(t, http.StatusCreated, got.Code)
	require.JSONEq(t, `{"id":"lead-1"}`, got.Body.String())
	one := <-received
	require.Equal(t, "sha256="+sign(one.body), one.signature)
	require.Equal(t, "localhost:8000", one.host)
	require.Contains(t, one.body, `"phone_number":"p:+9198200`)

	browser := press("Accept", "text/html", "Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusSeeOther, browser.Code)
	require.Equal(t, "/inbox?lead=lead-1", browser.Header().Get("Location"))
	<-received
	require.Equal(t, http.StatusForbidden, press("Sec-Fetch-Site", "cross-site").Code, "another page must not press it")
	require.Equal(t, http.StatusForbidden, press("Via", "1.1 proxy").Code, "nor another machine")
	require.Empty(t, received)

	req := httptest.NewRequest(http.MethodGet, "http://localhost:8000/inbox?lead=%3Cb%3E", nil)
	req.RemoteAddr = "127.0.0.1:5000"
	page := serve(in.Handler(), req).Body.String()
	require.Contains(t, page, `action="/inbox/lead"`)
	require.Contains(t, page, "&lt;b&gt;")
}
