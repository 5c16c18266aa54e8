package e2e

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/test/fake/openai"
)

const (
	browserStart  = 5 * time.Minute // beside other tests
	pageTimeout   = 2 * time.Minute // for each step in a page
	phone         = 390             // pixels, the width of a small screen
	operationBody = ".opblock.is-open .live-responses-table .response"
)

// TestPagesInTheBrowser does what a new user does: open the reference, log in, call the API, and watch the webhooks arrive.
func TestPagesInTheBrowser(t *testing.T) {
	t.Parallel()
	ai := openai.Start(t)
	s := newPlatform(t, fakes{openai: ai}, false, "OPENAI_BASE_URL="+ai.URL(), "OPENAI_API_KEY="+openai.Key)
	s.start()
	s.chromium = startChromium(t)
	a := s.newAgent()
	t.Run("the reference", func(t *testing.T) { reference(t, s.in(t), s.in(t).as(a)) })
	t.Run("the inbox", func(t *testing.T) { inbox(t, s.in(t), s.in(t).as(a)) })
}

func reference(t *testing.T, s *stack, a *agent) {
	b := newWindow(t, s.chromium)
	b.do(chromedp.Navigate(a.url+"/docs#/auth/auth.me"), b.visible(".opblock.is-open .execute")) // the link to an operation opens it
	require.Equal(t, "API reference · Convoflow", valueOf(b, chromedp.Title()))

	b.do(b.click(".opblock.is-open .execute"), b.visible(operationBody))
	b.requireResponse("401", `"code": "not_authenticated"`)
	problems := b.newProblems()
	require.Len(t, problems, 1, "the browser notes the 401 and nothing else: %s", problems)
	require.Contains(t, problems[0], "401")

	b.do(b.click("[data-do=login]"), b.visible("#oauth_username"))
	require.False(t, valueOf(b, chromedp.Evaluate[bool](`[...document.querySelectorAll("#client_id_password, #client_secret_password, #password_type")].some(e => e.checkVisibility())`)), "nobody has a client id")
	b.do(chromedp.SendKeys(chromedp.CSS("#oauth_username"), a.email), chromedp.SendKeys(chromedp.CSS("#oauth_password"), a.password+"\r"), b.visible(".authorize.locked"), b.click(".close-modal"))

	b.do(b.click(".opblock.is-open .execute"))
	b.requireResponse("200", a.email)
	b.do(b.click(".opblock.is-open .opblock-summary-control"), b.click(`[id$="crm\\.create_client"] .opblock-summary-control`), b.visible(".opblock.is-open .execute"))
	b.do(b.click(".opblock.is-open .execute"))
	b.requireResponse("201", `"agent_id"`)
	require.Len(t, a.ids("/clients"), 1)

	b.requireFitsPhone()
	b.do(b.click("[data-do=register]"), b.visible(`[id$="auth\\.register"].is-open .execute`))
	b.requireFitsPhone()
	require.Empty(t, b.newProblems())
}

// inbox opens the inbox before the first webhook arrives, makes it fail, and sees it sent again without a reload.
func inbox(t *testing.T, s *stack, a *agent) {
	b := newWindow(t, s.chromium)
	b.do(chromedp.Navigate(a.url+"/inbox"), b.visible(".empty"))
	b.do(b.click("form[action='/inbox/fail'] button"), b.visible(".failing"))
	problems := b.newProblems()
	require.Empty(t, problems)
	valueOf(b, chromedp.Evaluate[chromedp.Void](`window.stays = true`))
	a.upload(nil)
	b.do(b.visible(".delivery"), b.click(".delivery summary"))
	b.do(b.visible(".again"))
	poll(t, pageTimeout, "it has been sent a third time", func() bool {
		return valueOf(b, chromedp.Evaluate[bool](`[...document.querySelectorAll(".delivery")].some(d => d.innerText.includes("attempt 3") && !d.innerText.includes("answered 500"))`))
	})
	require.True(t, valueOf(b, chromedp.Evaluate[bool](`window.stays === true && document.querySelector("details[open]") !== null && !document.querySelector(".failing").checkVisibility()`)), "the page was not loaded again")
	shown := valueOf(b, chromedp.Text(chromedp.CSS("details[open]")))
	for _, part := range []string{transcriptionCompleted, "signatures valid", "answered 500", a.email} {
		require.Contains(t, shown, part)
	}
	b.do(b.click("form[action='/inbox/lead'] button"), b.visible(".lead"))
	poll(t, pageTimeout, "the webhook of the lead", func() bool {
		return valueOf(b, chromedp.Evaluate[bool](`[...document.querySelectorAll(".delivery .event")].some(e => e.innerText === "lead.imported")`))
	})
	b.requireFitsPhone()
	require.Empty(t, b.newProblems())
}

// browser is a Chromium with one window. It cannot reach any other host than this machine.
type browser struct {
	t        testing.TB
	ctx      context.Context
	mu       sync.Mutex
	problems []string // since the last call of newProblems
}

// newBrowser is a window of a Chromium of its own.
func newBrowser(t testing.TB) *browser {
	t.Helper()
	return newWindow(t, startChromium(t))
}

// startChromium starts a Chromium, which ends with the test.
func startChromium(t testing.TB) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(findChromium(t)), chromedp.WSURLReadTimeout(browserStart),
		chromedp.NoSandbox, // it does not start as root, as in a container, and it loads our own pages only
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"),
		chromedp.Flag("use-fake-device-for-media-stream", true), chromedp.Flag("use-fake-ui-for-media-stream", true), // a microphone that beeps
		chromedp.WindowSize(1280, 900),
	)
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	require.NoError(t, chromedp.Do(ctx), "start Chromium")
	return ctx
}

// newWindow is a window of that Chromium that shares no cookies and no storage with the others.
func newWindow(t testing.TB, chromium context.Context) *browser {
	t.Helper()
	ctx, stop := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext())
	t.Cleanup(stop)
	b := &browser{t: t, ctx: ctx}
	require.NoError(t, chromedp.Listen(ctx, b.onEvent))
	go b.watchConsole(chromedp.Console(ctx))
	t.Cleanup(func() {
		if t.Failed() {
			page, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText.slice(0, 1500)`)) // nothing if it has crashed
			t.Logf("problems of the page: %s\n%s", b.problems, page)
		}
	})
	return b
}

func findChromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("there is no Chromium: scripts/setup --test installs it")
	return ""
}

// onEvent records requests that fail or go to another host.
func (b *browser) onEvent(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Scheme != "data" && u.Scheme != "blob" && u.Hostname() != "127.0.0.1" {
			b.record("a request to another host: %s", e.Request.URL)
		}
	case *network.EventLoadingFailed:
		if !e.Canceled {
			b.record("a request failed: %s %s", e.ErrorText, e.BlockedReason)
		}
	}
}

// watchConsole records the problems that the console shows, such as exceptions, violations of the Content-Security-Policy and
// error responses.
func (b *browser) watchConsole(console iter.Seq2[chromedp.ConsoleMessage, error]) {
	for m, err := range console {
		switch {
		case err != nil:
			return // the browser has ended
		case m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.IsException():
			b.record("%s", m)
		}
	}
}

func (b *browser) record(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, fmt.Sprintf(format, args...))
}

// newProblems returns the problems since its last call.
func (b *browser) newProblems() (problems []string) {
	b.t.Helper()
	// Console messages arrive late but in order: once this one has arrived, all earlier ones have.
	const mark = "the mark of newProblems"
	valueOf(b, chromedp.Evaluate[chromedp.Void](`console.error("`+mark+`")`))
	poll(b.t, pageTimeout, "the console message has arrived", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		last := slices.IndexFunc(b.problems, func(p string) bool { return strings.Contains(p, mark) })
		if last < 0 {
			return false
		}
		problems, b.problems = slices.Delete(slices.Clone(b.problems), last, last+1), nil
		return true
	})
	return problems
}

// do runs steps in the page, each with a timeout of its own.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	for i, step := range steps {
		ctx, stop := context.WithTimeout(b.ctx, pageTimeout)
		err := chromedp.Do(ctx, step)
		stop()
		require.NoError(b.t, err, "step %d", i+1)
	}
}

func valueOf[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, pageTimeout)
	defer stop()
	value, err := chromedp.Run(ctx, action)
	require.NoError(b.t, err)
	return value
}

// click clicks an element once it no longer moves: while the page scrolls, the click would miss it.
func (b *browser) click(selector string) chromedp.Action[chromedp.Void] {
	const still = `new Promise(resolve => {
		let frames = 0, before;
		const look = () => {
			const now = document.querySelector(%q)?.getBoundingClientRect().top;
			frames = now === before ? frames + 1 : 0;
			before = now;
			frames > 10 ? resolve() : requestAnimationFrame(look);
		};
		look();
	})`
	return chromedp.Steps(
		chromedp.WaitVisible(chromedp.CSS(selector)),
		chromedp.Evaluate[chromedp.Void](fmt.Sprintf(still, selector), chromedp.EvalAwaitPromise),
		chromedp.Click(chromedp.CSS(selector)),
	)
}

func (b *browser) visible(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.WaitVisible(chromedp.CSS(selector))
}

// requireResponse waits until the open operation of the reference shows a response with that status and text.
func (b *browser) requireResponse(status, text string) {
	b.t.Helper()
	var shown string
	poll(b.t, pageTimeout, "the answer is "+status, func() bool {
		shown = valueOf(b, chromedp.Evaluate[string](`document.querySelector("`+operationBody+`")?.innerText ?? ""`))
		return strings.HasPrefix(shown, status)
	})
	require.Contains(b.t, shown, text)
}

// requireFitsPhone requires that the page is not wider than a phone's screen.
func (b *browser) requireFitsPhone() {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(phone, 844))
	require.LessOrEqual(b.t, valueOf(b, chromedp.Evaluate[int](`document.documentElement.scrollWidth`)), phone)
}
