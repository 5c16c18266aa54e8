package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/test/fake/openai"
)

// TestScreenshots makes the images of the README in the directory SCREENSHOTS, and otherwise in a temporary one, so that the script
// cannot rot.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	ai := openai.Start(t)
	s := newPlatform(t, fakes{openai: ai}, false, "OPENAI_BASE_URL="+ai.URL(), "OPENAI_API_KEY="+openai.Key)
	s.start()
	s.chromium = startChromium(t)
	a := s.anonymous()
	a.name = "Asha Rao"
	a.post("/auth/register", map[string]any{"email": a.email, "password": a.password, "full_name": a.name}).must(201)
	a.login()
	call := a.completed(a.upload(map[string]string{"client_id": a.newClient().ID}).ID).ID
	poll(t, jobTimeout, "the suggestions", func() bool { return len(a.ids("/followups")) == 2 })
	code, _, stderr := command(t, s.units[0].environ, built.platform(t, false), "seed", "--leads", "300", "--calls", "200", "--agents", "4", "--data-dir", s.dir)
	require.Zero(t, code, stderr)
	b := loggedIn(t, s, a)
	b.do(chromedp.EmulateViewport(1280, 800))
	pages := map[string]struct{ path, complete string }{
		"today": {"/", `document.querySelector("main").innerText.includes("Send the proposal")`},
		"call": {"/calls/" + call, `document.querySelector("main").innerText.includes("/ 0:38") && document.querySelector("main").innerText.includes("Accept") &&
			performance.getEntriesByType("resource").some(e => e.name.endsWith("/waveform") && e.responseEnd > 0)`},
		"team": {"/team", `document.querySelector("main").innerText.includes("Funnel")`},
	}
	for name, page := range pages {
		b.open(page.path)
		b.until(name+" is complete", page.complete)
		b.until("nothing moves", `!document.querySelector(".bone, .toast")`)
		b.do(chromedp.Evaluate[chromedp.Void](`new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))`, chromedp.EvalAwaitPromise))
		image := valueOf(b, chromedp.CaptureScreenshot())
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".png"), image, 0o644))
	}
}
