package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// loggedIn is a window in which the agent has logged in to the console.
func loggedIn(t *testing.T, s *stack, a *agent) *browser {
	t.Helper()
	b := newWindow(t, s.chromium)
	b.do(chromedp.Navigate(a.url + "/console/login"))
	b.until("the form", `document.querySelector("[name=email]")`)
	b.fill("email", a.email)
	b.fill("password", a.password)
	b.do(chromedp.KeyEvent("\r"))
	b.until("somebody is logged in", `document.querySelector(".shell h1")`)
	return b
}

// maxTabs is how often Tab is pressed at most to reach a control.
const maxTabs = 150

// open opens a page of the console without loading the console again. The page before is shown until the part of the console with the
// new one is loaded.
func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`(() => { const a = document.createElement("a"); a.href = "/console%s"; document.body.append(a); a.click(); a.remove() })()`, path)))
	b.until("the page "+path, fmt.Sprintf(`location.href.endsWith(%q) && document.querySelector("main:not([aria-busy=true]) h1") && !document.querySelector(".bone")`, "/console"+path))
}

// until waits until a script is true.
func (b *browser) until(what, script string) {
	b.t.Helper()
	poll(b.t, pageTimeout, what, func() bool { return valueOf(b, chromedp.Evaluate[bool]("Boolean("+script+")")) })
}

// press presses the first visible control whose text or label begins like that, by keyboard: Tab reaches it, Enter presses it. A mouse
// would hit it too.
func (b *browser) press(text string) {
	b.t.Helper()
	const find = `(() => {
		document.querySelector("[data-pressed]")?.removeAttribute("data-pressed");
		const root = document.querySelector("dialog[open]") ?? document;
		const found = [...root.querySelectorAll("button, a")].find(e => e.checkVisibility() && !e.disabled && (e.ariaLabel ?? e.innerText).trim().startsWith(%q));
		found?.setAttribute("data-pressed", "");
		return found;
	})()`
	b.until("the control "+text, fmt.Sprintf(find, text))
	// The page may have drawn the control again meanwhile.
	focused := fmt.Sprintf(`document.querySelector("[data-pressed]") || %s, document.activeElement?.hasAttribute("data-pressed") ?? false`, fmt.Sprintf(find, text))
	for presses := 0; !valueOf(b, chromedp.Evaluate[bool](focused)); presses++ {
		require.Less(b.t, presses, maxTabs, "the key Tab does not reach %q", text)
		b.do(chromedp.KeyEvent(kb.Tab))
	}
	b.until("a mouse hits "+text, `(() => { const e = document.querySelector("[data-pressed]"), [r] = e.getClientRects(); return e.contains(document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2)) })()`)
	b.do(chromedp.KeyEvent(kb.Enter))
}

func (b *browser) fill(name, text string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(chromedp.CSS(`:is(input, textarea)[name="`+name+`"]`), text))
}

// fits requires that the page needs no horizontal scrolling on a phone, and widens the window again.
func (b *browser) fits() {
	b.t.Helper()
	b.requireFitsPhone()
	b.do(chromedp.EmulateViewport(1280, 900))
}

// dropFile drops a file of zeros on the page.
func (b *browser) dropFile(name string, size int) {
	b.t.Helper()
	b.drop(fmt.Sprintf(`new File([new Uint8Array(%d)], %q)`, size, name))
}

// dropSample drops a recording that the platform has not got yet.
func (b *browser) dropSample(name string) {
	b.t.Helper()
	b.drop(fmt.Sprintf(`new File([Uint8Array.from(atob(%q), c => c.charCodeAt(0)), "another"], %q)`, base64.StdEncoding.EncodeToString(salesCall(b.t)), name))
}

func (b *browser) drop(file string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](`(() => { const data = new DataTransfer(); data.items.add(` + file + `); dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: data})) })()`))
}

// hostile requires that names that are markup, very long or right to left are shown as text and break no layout.
func hostile(t *testing.T, s *stack, a *agent) {
	names := []string{
		`<img src=x onerror="document.title='owned'"><script>document.title="owned"</script>`,
		strings.Repeat("W", 200), "\u202eمرحبا بالعالم" + strings.Repeat(" مرحبا", 20), strings.Repeat("👩‍👩‍👧", 20), `{{constructor.constructor("document.title='owned'")()}}`,
	}
	b := loggedIn(t, s, a)
	uploaded := a.completed(a.upload(nil).ID)
	for i, name := range names {
		var made, lead struct{ ID string }
		a.post("/clients", map[string]any{"name": name, "company": name, "notes": strings.Repeat(name, 10000/len(name))}).must(http.StatusCreated).into(&made)
		a.post("/leads", map[string]any{"name": name, "phone": fmt.Sprintf("+9198111000%02d", i), "source_campaign": name}).must(http.StatusCreated).into(&lead)
		a.do(http.MethodPatch, "/calls/"+uploaded.ID, map[string]any{"title": name, "notes": name, "client_id": made.ID}).must(http.StatusOK)
		for _, path := range []string{"/clients/" + made.ID, "/leads/" + lead.ID, "/calls/" + uploaded.ID} {
			b.open(path)
			text, err := json.Marshal(name)
			require.NoError(t, err)
			b.until("the name as text", fmt.Sprintf(`document.querySelector("h1")?.textContent.includes(%s)`, text))
			b.fits()
		}
	}
	for _, path := range []string{"/clients", "/calls", "/leads", "/leads?view=board", "/", "/team"} {
		b.open(path)
		b.fits()
	}
	require.NotEqual(t, "owned", valueOf(b, chromedp.Title()))
	require.Empty(t, b.newProblems())
}

const mouse, touch = 36, 44 // pixels

// tooSmall names the controls that are hard to hit. What belongs to a link around its text counts. A flag of the waveform is small
// because others are beside it; its quote, which is not, does the same.
const tooSmall = `[...document.querySelectorAll("a, button, input, select, summary")].filter(e => e.checkVisibility() && !e.closest(".unseen, .skip, .flag")).filter(e => {
	const box = (/checkbox|radio/.test(e.type) ? e.closest("label") : e).getBoundingClientRect(), around = getComputedStyle(e, "::after");
	return box.height - (around.position === "absolute" ? parseFloat(around.top) + parseFloat(around.bottom) : 0) < %d;
}).map(e => e.outerHTML.slice(0, 200)).join("\n")`

// accessible runs axe on every page: light, dark, and on a phone; and its controls can be hit.
func accessible(t *testing.T, s *stack, a *agent) {
	axe, err := os.ReadFile(filepath.FromSlash("../../console/third_party/axe-core/axe.min.js"))
	require.NoError(t, err)
	id := a.completed(a.upload(nil).ID).ID
	a.newLead()
	hooks := a.ids("/webhooks")
	b := loggedIn(t, s, a)
	b.do(chromedp.Evaluate[chromedp.Void](string(axe) + ";void 0"))
	const run = `axe.run(document, {resultTypes: ["violations"]%s}).then(r => r.violations.map(v => v.id + " " + v.nodes.map(n => n.target + " " + n.failureSummary).join("; ")).join("\n"))`
	all, colors := fmt.Sprintf(run, ""), fmt.Sprintf(run, `, runOnly: ["color-contrast"]`)
	for _, path := range []string{
		"/", "/calls", "/calls/" + id, "/followups", "/clients", "/clients/" + a.newClient().ID, "/leads", "/leads?view=board", "/leads/" + a.newLead(), "/team", "/admin/agents",
		"/admin/webhooks", "/admin/webhooks/" + hooks[len(hooks)-1], "/admin/deliveries", "/admin/deliveries/" + a.ids("/webhooks/deliveries")[0], "/admin/usage", "/settings",
	} {
		b.open(path)
		for _, view := range []struct {
			name, check string
			target      int // pixels, the smallest height of a control
			show        chromedp.Action[chromedp.Void]
		}{
			{"dark", colors, mouse, chromedp.Evaluate[chromedp.Void](`document.documentElement.dataset.theme = "dark"`)}, // the document is the same
			{"light", all, mouse, chromedp.Evaluate[chromedp.Void](`document.documentElement.dataset.theme = "light"`)},
			{"phone", all, touch, chromedp.EmulateViewport(phone, 844)},
		} {
			b.do(view.show)
			require.Empty(t, valueOf(b, chromedp.Evaluate[string](view.check, chromedp.EvalAwaitPromise)), "%s, %s", path, view.name)
			require.Empty(t, valueOf(b, chromedp.Evaluate[string](fmt.Sprintf(tooSmall, view.target))), "%s, %s", path, view.name)
		}
		b.do(chromedp.EmulateViewport(1280, 900))
	}
	require.Empty(t, b.newProblems())
}
