package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/identity"
)

// respondAsAuth makes the fake auth log everybody in who has a token or the right password, and returns the last refresh body.
func (f *fixture) respondAsAuth(access string) *requests {
	seen := &requests{}
	f.services["auth"].respond(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen.add(r, string(body))
		w.Header().Set("Content-Type", "application/json")
		tokens := `{"access_token":"` + access + `","token_type":"bearer","expires_in":900,"refresh_token":"new-refresh"}`
		switch r.Method + " " + r.URL.Path {
		case "GET /auth/registration":
			_, _ = io.WriteString(w, `{"registration":"open","first_run":false}`)
		case "GET /auth/me":
			if r.Header.Get("Authorization") != "Bearer "+access {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = io.WriteString(w, `{"id":"a"}`)
		case "POST /auth/login":
			if !strings.Contains(string(body), "password=right") {
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = io.WriteString(w, `{"detail":"Invalid credentials","code":"invalid_credentials","request_id":"`+r.Header.Get("X-Request-ID")+`"}`)
				return
			}
			_, _ = io.WriteString(w, tokens)
		case "POST /auth/refresh":
			if !strings.Contains(string(body), `"good-refresh"`) {
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = io.WriteString(w, `{"detail":"no","code":"invalid_refresh_token","request_id":"`+r.Header.Get("X-Request-ID")+`"}`)
				return
			}
			_, _ = io.WriteString(w, tokens)
		case "POST /auth/logout":
			if r.Header.Get("Authorization") == "Bearer expired" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		}
	})
	return seen
}

// TestTheConsolesSessionIsInCookies logs in, renews, and logs out, as a page of the platform's own origin does.
func TestTheConsolesSessionIsInCookies(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.TrustedProxies = []string{"127.0.0.0/8"}; c.Demo = true })
	access := f.token(t, identity.Agent)
	seen := f.respondAsAuth(access)

	res, body := do(t, f.page(t, "POST", "/console/session", `{"email":"asha@example.com","password":"right"}`))
	require.Equal(t, http.StatusOK, res.StatusCode, body)
	require.JSONEq(t, `{"agent":{"id":"a"},"renewable":true,"registration":"open","first_run":false,"demo":true}`, body)
	requireCookie(t, res, f.cookie("at"), access, "/")
	requireCookie(t, res, f.cookie("rt"), "new-refresh", "/console/session")
	require.Contains(t, seen.last("POST /auth/login"), "username=asha%40example.com")

	https := f.page(t, "POST", "/console/session", `{"email":"asha@example.com","password":"right"}`)
	https.Header.Set("X-Forwarded-Proto", "https")
	res, _ = do(t, https)
	for _, name := range []string{f.cookie("__Host-at"), f.cookie("__Secure-rt")} {
		require.True(t, cookieOf(t, res, name).Secure, name)
	}

	wrong := f.page(t, "POST", "/console/session", `{"email":"asha@example.com","password":"wrong"}`)
	res, body = do(t, wrong)
	requireError(t, res, body, http.StatusUnauthorized, "invalid_credentials")
	require.Empty(t, res.Cookies())

	renew := f.page(t, "POST", "/console/session/refresh", "")
	renew.Header.Set("Cookie", f.cookie("rt")+"=good-refresh")
	res, _ = do(t, renew)
	require.Equal(t, http.StatusNoContent, res.StatusCode)
	requireCookie(t, res, f.cookie("at"), access, "/")

	renew = f.page(t, "POST", "/console/session/refresh", "")
	renew.Header.Set("Cookie", f.cookie("rt")+"=spent")
	res, body = do(t, renew)
	requireError(t, res, body, http.StatusUnauthorized, "invalid_refresh_token")
	require.Negative(t, cookieOf(t, res, f.cookie("at")).MaxAge, "a session that cannot be renewed is over")

	show := f.page(t, "GET", "/console/session", "")
	show.Header.Set("Cookie", f.cookie("at")+"=expired; "+f.cookie("rt")+"=good-refresh")
	res, body = do(t, show)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.JSONEq(t, `{"agent":null,"renewable":true,"registration":"open","first_run":false,"demo":true}`, body)

	logout := f.page(t, "DELETE", "/console/session", "")
	logout.Header.Set("Cookie", f.cookie("at")+"=expired; "+f.cookie("rt")+"=good-refresh")
	res, _ = do(t, logout)
	require.Equal(t, http.StatusNoContent, res.StatusCode)
	require.Negative(t, cookieOf(t, res, f.cookie("rt")).MaxAge)
	require.Equal(t, 2, seen.count("POST /auth/logout"), "the session ends also if its access token has expired")
}

// TestACookieRidesOnlyOnRequestsOfThisOrigin requires that a cookie is worth nothing in any request that another site could have
// made, and that no service ever gets one.
func TestACookieRidesOnlyOnRequestsOfThisOrigin(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.AllowedOrigins = []string{"https://app.example.com"} })
	var arrived requests
	f.services["crm"].respond(func(w http.ResponseWriter, r *http.Request) {
		arrived.add(r, "")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "[]")
	})
	token := f.token(t, identity.Agent)
	cookie := f.cookie("at") + "=" + token
	for name, c := range map[string]struct {
		method  string
		header  map[string]string
		allowed bool
	}{
		"a page reads":                         {"GET", map[string]string{"Sec-Fetch-Site": "same-origin"}, true},
		"the address bar":                      {"GET", map[string]string{"Sec-Fetch-Site": "none"}, true},
		"a browser without fetch metadata":     {"GET", nil, true},
		"another port reads":                   {"GET", map[string]string{"Sec-Fetch-Site": "same-site"}, false},
		"another site reads":                   {"GET", map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
		"an allowed origin reads":              {"GET", map[string]string{"Origin": "https://app.example.com"}, false},
		"two cookies of one name":              {"GET", map[string]string{"Cookie": cookie + "; " + f.cookie("at") + "=x"}, false},
		"the cookie of another port":           {"GET", map[string]string{"Cookie": "at-1=" + token}, false},
		"the cookie of the default port":       {"GET", map[string]string{"Cookie": "at=" + token}, false},
		"a cookie of https over http":          {"GET", map[string]string{"Cookie": "__Host-" + cookie}, false},
		"a page writes":                        {"POST", map[string]string{"Sec-Fetch-Site": "same-origin"}, true},
		"a page writes without fetch metadata": {"POST", map[string]string{"Origin": f.url}, true},
		"something writes without any sign":    {"POST", nil, false},
		"the address bar writes":               {"POST", map[string]string{"Sec-Fetch-Site": "none"}, false},
		"another port writes":                  {"POST", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"}, false},
		"another site writes":                  {"POST", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, false},
		"an allowed origin writes":             {"POST", map[string]string{"Origin": "https://app.example.com"}, false},
		"an opaque origin writes":              {"POST", map[string]string{"Origin": "null"}, false},
		"same-origin with another Origin":      {"POST", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			req := f.request(t, c.method, "/clients", strings.NewReader(`{"name":"x"}`))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Cookie", cookie)
			for name, value := range c.header {
				req.Header.Set(name, value)
			}
			res, body := do(t, req)
			if c.allowed {
				require.Equal(t, http.StatusOK, res.StatusCode, body)
			} else {
				requireError(t, res, body, http.StatusUnauthorized, "not_authenticated")
			}
		})
	}
	header := f.agent(t, "GET", "/clients", nil)
	header.Header.Set("Cookie", f.cookie("at")+"=forged; other=1")
	res, body := do(t, header)
	require.Equal(t, http.StatusOK, res.StatusCode, "a header counts before a cookie: %s", body)
	require.Positive(t, arrived.count("GET /clients"))
	require.Empty(t, arrived.cookies(), "no service gets a cookie")

	for _, method := range []string{"POST", "DELETE"} {
		login := f.request(t, method, "/console/session", strings.NewReader(`{"email":"mallory@example.com","password":"right"}`))
		login.Header.Set("Sec-Fetch-Site", "cross-site")
		res, body = do(t, login)
		requireError(t, res, body, http.StatusForbidden, "cross_origin")
	}
}

func TestTheConsoleIsServed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	home := f.request(t, "GET", "/", nil)
	home.Header.Set("Accept", "text/html,*/*")
	transport := client().Transport
	res, err := transport.RoundTrip(home)
	require.NoError(t, err)
	_ = res.Body.Close()
	require.Equal(t, http.StatusFound, res.StatusCode)
	require.Equal(t, "/console/", res.Header.Get("Location"))
	res, body := do(t, f.request(t, "GET", "/", nil))
	requireError(t, res, body, http.StatusNotFound, "not_found")

	for _, path := range []string{"/console", "/console/", "/console/calls/019abf00-0000-7000-8000-000000000001"} {
		res, body = do(t, f.request(t, "GET", path, nil))
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, "text/html; charset=utf-8", res.Header.Get("Content-Type"))
		require.Equal(t, "no-cache", res.Header.Get("Cache-Control"))
		for _, part := range []string{"script-src 'self';", "require-trusted-types-for 'script'", "trusted-types 'none'", "frame-ancestors 'none'"} {
			require.Contains(t, res.Header.Get("Content-Security-Policy"), part)
		}
		require.NotContains(t, res.Header.Get("Content-Security-Policy"), "unsafe")
		require.NotContains(t, body, "<style")
		requireSecure(t, res)
	}
	res, _ = do(t, f.request(t, "GET", "/console/assets/of-another-version.js", nil))
	require.Equal(t, http.StatusNotFound, res.StatusCode)
	res, body = do(t, f.request(t, "GET", "/console/sales-call.ogg", nil))
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.True(t, strings.HasPrefix(body, "OggS"))
}

// page makes a request as a page of this origin does.
func (f *fixture) page(t *testing.T, method, path, body string) *http.Request {
	t.Helper()
	req := f.request(t, method, path, strings.NewReader(body))
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

// cookie returns the name of a cookie at the address of this gateway, which has a port.
func (f *fixture) cookie(name string) string {
	return name + "-" + f.url[strings.LastIndex(f.url, ":")+1:]
}

func cookieOf(t *testing.T, res *http.Response, name string) *http.Cookie {
	t.Helper()
	for _, c := range res.Cookies() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no cookie %s among %v", name, res.Header.Values("Set-Cookie"))
	return nil
}

func requireCookie(t *testing.T, res *http.Response, name, value, path string) {
	t.Helper()
	c := cookieOf(t, res, name)
	require.Equal(t, value, c.Value)
	require.Equal(t, path, c.Path)
	require.True(t, c.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, c.SameSite)
	require.Positive(t, c.MaxAge)
	require.Empty(t, c.Domain)
}
