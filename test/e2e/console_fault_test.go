package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// between is a server between the browser and the platform that can be slow, fail, and answer by itself.
type between struct {
	url     string
	mu      sync.Mutex
	delay   time.Duration
	failing string                  // requests of this method get 503
	answers map[string]http.Handler // by path
}

// forget removes a cookie of the session, whose name has the port of the address.
func (b *browser) forget(cookie, address string) {
	b.t.Helper()
	u, err := url.Parse(address)
	require.NoError(b.t, err)
	_, err = chromedp.Call(b.ctx, network.DeleteCookies, network.DeleteCookiesParams{Name: cookie + "-" + u.Port(), URL: address})
	require.NoError(b.t, err)
}

func startBetween(t testing.TB, platform string) *between {
	t.Helper()
	to, err := url.Parse(platform)
	require.NoError(t, err)
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // the platform compares it with the origin of the page
	}}
	b := &between{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		delay, fails, answer := b.delay, b.failing == r.Method && r.Header.Get("Sec-Fetch-Dest") == "empty", b.answers[r.URL.Path]
		b.mu.Unlock()
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
		switch {
		case fails:
			w.Header().Set("Retry-After", "1")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"detail": "The service is restarting", "code": "unavailable"}`))
		case answer != nil:
			answer.ServeHTTP(w, r)
		default:
			pass.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *between) set(delay time.Duration, failing string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delay, b.failing = delay, failing
}

// badDays requires that nothing that was typed is lost, and that each error says what to do.
func badDays(t *testing.T, s *stack, a *agent) {
	proxy := startBetween(t, a.url)
	through := *a
	through.url = proxy.url
	b := loggedIn(t, s, &through)

	proxy.set(500*time.Millisecond, "")
	for _, path := range []string{"/leads", "/followups", "/clients"} {
		b.open(path)
	}
	b.fill("q", "Natarajan of Pune")
	b.until("it searches for all that was typed meanwhile", `location.search === "?q=Natarajan+of+Pune" && document.querySelector("[name=q]").value === "Natarajan of Pune"`)
	require.Empty(t, b.newProblems())

	proxy.set(0, http.MethodGet)
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".place[href='/console/admin/agents']").click()`))
	b.until("the page says what to do", `document.querySelector(".failure")?.innerText.includes("The service is restarting. It is usually back within seconds.")`)
	proxy.set(0, "")
	b.until("and comes back by itself", `document.querySelectorAll(".agent-row").length > 0 && !document.querySelector(".failure")`)

	const typed = `document.querySelector("dialog [name=name]").value === "Typed Once" && document.querySelector("dialog [name=notes]").value === "a long note"`
	b.open("/clients?new")
	b.until("the form", `document.querySelector("dialog[open] [name=name]")`)
	b.fill("name", "Typed Once")
	b.fill("notes", "a long note")
	proxy.set(0, http.MethodPost)
	b.press("Add client")
	b.until("a failed form says so and keeps what was typed", `document.querySelector("dialog .failure")?.innerText.includes("usually back") && `+typed)
	proxy.set(0, "")

	b.forget("at", proxy.url)
	b.forget("rt", proxy.url+"/console/session")
	b.press("Add client")
	b.until("an ended session asks for the password", `[...document.querySelectorAll("dialog[open] h2")].some(e => e.innerText === "Your session has ended")`)
	b.fill("password", a.password)
	b.do(chromedp.KeyEvent("\r"))
	b.until("and what was typed is still there", `document.querySelectorAll("dialog[open]").length === 1 && `+typed)
	b.press("Add client")
	b.until("it is saved", `document.querySelector("h1")?.innerText === "Typed Once"`)
	require.Len(t, a.ids("/clients?q=Typed"), 1)
	b.fits()
	for _, p := range b.newProblems() {
		require.Regexp(t, "503|401", p)
	}
}

// twoTabs changes one client in two tabs at the same time.
func twoTabs(t *testing.T, s *stack, a *agent) {
	id := a.newClient().ID
	b := loggedIn(t, s, a)
	second := b.tab()
	second.do(chromedp.Navigate(a.url + "/console/clients/" + id))
	b.open("/clients/" + id)
	for _, tab := range []*browser{b, second} {
		tab.press("Change")
		tab.until("the form", `document.querySelector("dialog[open] [name=notes]")`)
	}
	b.fill("notes", "written in the first tab")
	second.fill("company", "Second Tab Ltd")
	second.press("Save")
	second.until("it is saved", `!document.querySelector("dialog") && document.querySelector("main").innerText.includes("Second Tab Ltd")`)
	b.press("Save")
	b.until("both are saved", `!document.querySelector("dialog") && ["written in the first tab", "Second Tab Ltd"].every(text => document.querySelector("main").innerText.includes(text))`)
	require.Empty(t, append(b.newProblems(), second.newProblems()...))
}

// sessions requires that no script can read a token, that an expired one is renewed unseen, and that a logout ends every tab.
func sessions(t *testing.T, s *stack, a *agent) {
	b := loggedIn(t, s, s.newAgent())
	const readable = `document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + location.href + performance.getEntriesByType("resource").map(e => e.name).join()`
	require.NotRegexp(t, `eyJ|refresh_token|access_token|token=`, valueOf(b, chromedp.Evaluate[string](readable)))

	require.False(t, valueOf(b, chromedp.Evaluate[bool](`document.body.innerText.includes("Deliveries")`)), "an agent has no link to a page of admins")
	b.open("/team")
	b.until("nor the page", `document.querySelector("main").innerText.includes("This page is for admins")`)
	require.Empty(t, b.newProblems())

	b.forget("at", a.url) // as if it had expired
	b.open("/clients")
	b.until("the session is renewed", `document.querySelector("main h1")?.innerText === "Clients"`)
	for _, p := range b.newProblems() {
		require.Contains(t, p, "401", "the browser notes the token that has expired")
	}

	second := b.tab()
	second.do(chromedp.Navigate(a.url + "/console/settings"))
	second.press("Log out")
	b.until("the other tab is logged out too", `document.querySelector("h1")?.innerText === "Log in"`)
	b.do(chromedp.Navigate(a.url + "/console/calls"))
	b.until("and stays so", `document.querySelector("h1")?.innerText === "Log in"`)
	require.Empty(t, second.newProblems())
}

// close closes a tab, as when a browser crashes: the page is not asked.
func (b *browser) close() {
	b.t.Helper()
	require.NoError(b.t, chromedp.Cancel(b.ctx))
}

// tab returns another tab of the same window.
func (b *browser) tab() *browser {
	b.t.Helper()
	ctx, stop := chromedp.NewContext(b.ctx)
	b.t.Cleanup(stop)
	another := &browser{t: b.t, ctx: ctx}
	require.NoError(b.t, chromedp.Listen(ctx, another.onEvent))
	go another.watchConsole(chromedp.Console(ctx))
	for _, tab := range []*browser{b, another} {
		// One of them is always in the background, where Chromium moves no focus.
		_, err := chromedp.Call(tab.ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
		require.NoError(b.t, err)
	}
	return another
}
