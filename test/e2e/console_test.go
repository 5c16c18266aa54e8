package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/test/fake/openai"
)

// TestConsole goes through the stories of the web console in a real browser, most of them at the same time. Each requires that the
// browser has nothing to complain about, that no other host is asked, and that a phone needs no horizontal scrolling. What they press
// is reached and pressed by keyboard, where a mouse would press it too.
func TestConsole(t *testing.T) {
	t.Parallel()
	ai := openai.Start(t)
	s := newPlatform(t, fakes{openai: ai}, false, "OPENAI_BASE_URL="+ai.URL(), "OPENAI_API_KEY="+openai.Key, "MAX_AUDIO_SIZE_MB=1", "WEBHOOK_ALLOW_PRIVATE_CIDRS=127.0.0.0/8")
	s.start()
	s.chromium = startChromium(t)
	admin := s.anonymous()
	t.Run("the first minute", func(t *testing.T) { firstMinute(t, s.in(t), admin, ai) })
	admin.login()
	t.Run("the team", func(t *testing.T) { team(t, s.in(t), admin.as(t, admin.token)) }) // while nobody adds anything
	t.Run("recordings", func(t *testing.T) { recordings(t, s.in(t)) })                   // while no other window is in front: Chromium gives that one the microphone
	t.Run("together", func(t *testing.T) {
		for name, story := range map[string]func(*testing.T, *stack, *agent){
			"a call":                    oneCall,
			"two hours":                 twoHours,
			"speakers":                  speakers,
			"uploads":                   uploads,
			"clients":                   clients,
			"leads":                     leads,
			"webhooks":                  webhooks,
			"sessions":                  sessions,
			"a slow and failing server": badDays,
			"two tabs":                  twoTabs,
			"keys":                      keys,
			"hostile content":           hostile,
			"every page by axe":         accessible,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				story(t, s.in(t), s.in(t).as(admin))
			})
		}
	})
}

// firstMinute is what a newcomer does, from the address that is printed to an accepted follow-up and its webhooks.
func firstMinute(t *testing.T, s *stack, a *agent, ai *openai.Server) {
	b := newWindow(t, s.chromium)
	b.do(chromedp.Navigate(s.url + "/"))
	b.until("the first account", `document.querySelector("h1")?.innerText === "Create the first account"`)
	b.fits()
	b.fill("full_name", a.name)
	b.fill("email", a.email)
	b.fill("password", a.password)
	working := ai.Block(openai.Transcriptions)
	b.press("Create account")
	b.press("Run the sample call")
	working.Wait(t)
	b.until("its status moves without a reload", `document.querySelector(".facts")?.innerText.includes("Transcribing")`)
	working.Release()
	b.until("the transcript", `document.querySelector(".transcript [data-i]")`)
	b.until("a suggestion", `document.querySelector(".followup.suggested")`)
	b.press("Accept")
	b.until("it is accepted at once", `document.querySelector(".followup.pending")`)
	b.press("Undo")
	b.until("it is undone", `document.querySelectorAll(".followup.suggested").length === 2`)
	b.press("Accept")
	b.until("it can be undone", `[...document.querySelectorAll(".toast button")].some(e => e.innerText === "Undo")`)
	b.do(chromedp.Reload()) // which nobody can undo any more: it is sent while the page is closed
	a.login()
	poll(t, jobTimeout, "the follow-up is stored", func() bool { return len(a.ids("/followups?status=pending")) == 1 })
	poll(t, jobTimeout, "two webhooks", func() bool { return len(a.ids("/webhooks/deliveries?status=delivered")) >= 2 })
	b.press("Deliveries")
	b.until("both webhooks", `["transcription.completed", "followup.scheduled"].every(e => document.querySelector("main .list")?.innerText.includes(e))`)
	b.press("transcription.completed")
	b.until("what was sent", `document.querySelector("main")?.innerText.includes("Send the proposal by Friday")`)
	b.fits()
	require.Empty(t, b.newProblems())
}

// oneCall plays a call: the current sentence is lit, a quote jumps to its time, and words are found.
func oneCall(t *testing.T, s *stack, a *agent) {
	id := a.completed(a.upload(nil).ID).ID
	var found struct{ Evidence []struct{ Start float64 } }
	a.get("/calls/" + id).must(http.StatusOK).into(&found)
	require.NotEmpty(t, found.Evidence)
	from := found.Evidence[0].Start
	b := loggedIn(t, s, a)
	b.open("/calls/" + id)
	b.until("the recording can be played", `document.querySelector("audio")?.readyState > 0`)
	b.press("Play the quote")
	b.until("it plays from there", fmt.Sprintf(`!document.querySelector("audio").paused && document.querySelector("audio").currentTime >= %f`, from))
	b.until("the sentence is lit and in view", `(() => { const e = document.querySelector(".now"), r = e?.getBoundingClientRect(); return e?.innerText.includes("proposal by") && r.top > 0 && r.bottom < innerHeight })()`)
	b.do(chromedp.KeyEvent("k"))
	b.until("a key pauses it", `document.querySelector("audio").paused`)
	before := valueOf(b, chromedp.Evaluate[float64](`document.querySelector("audio").currentTime`))
	b.do(chromedp.KeyEvent("j"))
	b.until("and another goes back", fmt.Sprintf(`document.querySelector("audio").currentTime < %f - 9`, before))
	b.do(chromedp.Focus(chromedp.CSS(".wave-slider")), chromedp.KeyEvent(kb.End))
	b.until("the slider is a slider", `document.querySelector(".wave-slider").getAttribute("aria-valuetext").startsWith("38 seconds of 38")`)

	b.do(chromedp.SendKeys(chromedp.CSS(".find input"), "proposal"))
	b.until("words are found in the call", `document.querySelector(".find").innerText.includes("1 of 2")`)
	b.open("/calls")
	b.do(chromedp.SendKeys(chromedp.CSS(".filters [name=q]"), "yearly"))
	b.until("and across calls", `document.querySelector(".highlight mark")?.innerText.toLowerCase() === "yearly"`)
	require.Contains(t, valueOf(b, chromedp.Evaluate[string](`location.search`)), "q=yearly", "a search has an address")
	b.open("/calls/" + id)
	b.until("the call again", `document.querySelector(".transcript [data-i]")`)
	b.fits()
	require.Empty(t, b.newProblems())
}

// keys presses the shortcuts, which are letters in a field.
func keys(t *testing.T, s *stack, a *agent) {
	id := a.completed(a.upload(nil).ID).ID
	b := loggedIn(t, s, a)
	b.open("/calls/" + id)
	b.until("a suggestion", `document.querySelectorAll(".followup.suggested").length === 2 && document.querySelector("audio")?.readyState > 0`)
	for _, step := range []struct{ key, what, script string }{
		{"a", "the first suggestion is accepted", `document.querySelectorAll(".followup.pending").length === 1`},
		{"e", "it is done", `document.querySelectorAll(".followup.completed").length === 1`},
		{"n", "the next quote plays", `!document.querySelector("audio").paused && document.querySelector("audio").currentTime > 1`},
		{"k", "it is paused", `document.querySelector("audio").paused`},
		{"?", "the help", `document.querySelector("dialog[open]")?.innerText.includes("Complete the first follow-up")`},
		{kb.Escape, "it is closed", `!document.querySelector("dialog")`},
		{"gf", "the follow-ups", `location.pathname === "/console/followups"`},
		{"gt", "the team", `location.pathname === "/console/team"`},
		{"gk", "the clients", `location.pathname === "/console/clients"`},
		{"gh", "today", `location.pathname === "/console/"`},
		{"/", "the search of the calls", `location.pathname === "/console/calls" && document.activeElement.type === "search"`},
		{"gl?", "letters in a field", `location.pathname === "/console/calls" && document.activeElement.value === "gl?"`},
	} {
		b.do(chromedp.KeyEvent(step.key))
		b.until(step.what, step.script)
	}
	b.fits()
	require.Empty(t, b.newProblems())
}

// clients adds a client, whose duplicate leads to the first.
func clients(t *testing.T, s *stack, a *agent) {
	b := loggedIn(t, s, a)
	for range 2 {
		b.open("/clients?new")
		b.until("the form", `document.querySelector("dialog[open] [name=name]")`)
		b.fill("name", "Priya Natarajan")
		b.fill("phone", "9820012345")
		b.press("Add client")
		b.until("an answer", `location.pathname.match(/clients\/[0-9a-f-]{36}/) || document.querySelector("dialog .note")`)
	}
	b.press("Open that client")
	b.until("the first one", `document.querySelector("h1")?.innerText === "Priya Natarajan"`)
	require.Len(t, a.ids("/clients?q=Natarajan"), 1)
	for _, p := range b.newProblems() {
		require.Contains(t, p, "409")
	}
	id := a.ids("/clients?q=Natarajan")[0]
	a.completed(a.upload(map[string]string{"client_id": id}).ID)
	poll(t, jobTimeout, "the call is on the timeline", func() bool { return strings.Contains(string(a.get("/clients/"+id+"/timeline").body), "call_id") })
	b.open("/clients/" + id)
	b.until("the timeline", `document.querySelector(".timeline")?.innerText.includes("Price talk with Maria")`)
	b.fits()
	require.Empty(t, b.newProblems())
}

// leads moves a lead over the board by keyboard, and changes several at once.
func leads(t *testing.T, s *stack, _ *agent) {
	a := s.newAgent() // who has no other leads
	id := a.newLead()
	b := loggedIn(t, s, a)
	b.open("/leads?view=board")
	b.until("the board", `document.querySelector("[data-stage=new] .lead-card")`)
	b.fits()
	b.do(chromedp.Focus(chromedp.CSS(`[data-id="`+id+`"] select`)), chromedp.SendKeys(chromedp.CSS(`[data-id="`+id+`"] select`), "Qualified"))
	b.until("it moved", `document.querySelector("[data-stage=qualified] [data-id='`+id+`']")`)
	poll(t, jobTimeout, "for everybody", func() bool { return a.lead(id).Status == "qualified" })
	drag := fmt.Sprintf(`(() => { const data = new DataTransfer(), card = document.querySelector("[data-id='%s']"), to = document.querySelector("[data-stage=contacted]");
		card.dispatchEvent(new DragEvent("dragstart", {bubbles: true, dataTransfer: data}));
		for (const name of ["dragover", "drop"]) to.dispatchEvent(new DragEvent(name, {bubbles: true, cancelable: true, dataTransfer: data})) })()`, id)
	b.do(chromedp.Evaluate[chromedp.Void](drag))
	poll(t, jobTimeout, "a mouse moves it too", func() bool { return a.lead(id).Status == "contacted" })

	b.open("/leads")
	b.until("the table", `document.querySelector(".lead-row")`)
	b.do(b.click(".bulk input"), chromedp.SendKeys(chromedp.CSS(".bulk select"), "Lost"))
	poll(t, jobTimeout, "the chosen ones are changed", func() bool { return a.lead(id).Status == "lost" })
	b.fits()

	b.press("Import")
	file := filepath.Join(t.TempDir(), "leads.csv")
	require.NoError(t, os.WriteFile(file, []byte("name,phone\nKiran Imported,+919820088001\nNobody,\n"), 0o600))
	before := len(a.ids("/leads"))
	b.do(chromedp.SetUploadFiles(chromedp.CSS("#csv"), []string{file}))
	b.until("what would happen", `document.querySelector("dialog [role=status]")?.innerText.includes("This would happen: 1 lead created")`)
	require.Len(t, a.ids("/leads"), before, "a dry run changes nothing")
	b.press("Import 1 lead")
	b.until("it happened", `document.querySelector("dialog [role=status]")?.innerText.includes("Done: 1 lead created")`)
	require.Len(t, a.ids("/leads"), before+1)
	require.Empty(t, b.newProblems())
}

// team requires that the numbers are those of the API, and that the stale leads are those that it counts.
func team(t *testing.T, s *stack, a *agent) {
	a.newLead()
	code, _, stderr := command(t, s.units[0].environ, built.platform(t, false), "seed", "--leads", "60", "--calls", "40", "--agents", "2", "--data-dir", s.dir)
	require.Zero(t, code, stderr)
	b := loggedIn(t, s, a)
	b.open("/team?days=7")
	b.until("the tiles", `document.querySelectorAll(".tile").length === 6`)
	var want struct {
		Leads int `json:"total_leads"`
		Due   int `json:"followups_due_today"`
		Stale int `json:"stale_leads_count"`
		Days  []struct {
			Calls       int `json:"calls_made"`
			Leads       int `json:"new_leads"`
			Conversions int
		} `json:"daily_stats"`
	}
	a.get("/analytics/overview?scope=team&days=7").must(http.StatusOK).into(&want)
	var calls, leads, conversions int
	for _, day := range want.Days {
		calls, leads, conversions = calls+day.Calls, leads+day.Leads, conversions+day.Conversions
	}
	for name, n := range map[string]int{"Leads": want.Leads, "Calls": calls, "New leads": leads, "Conversions": conversions, "Due today": want.Due, "Stale leads": want.Stale} {
		require.Equal(t, fmt.Sprint(n), valueOf(b, chromedp.Evaluate[string](`document.querySelector("[data-tile='`+name+`']").innerText`)), name)
	}
	require.Positive(t, want.Stale)
	b.until("the longest without a contact", fmt.Sprintf(`document.querySelectorAll(".stale li").length === %d`, min(want.Stale, 10)))
	b.press("All stale leads")
	b.until("all of them", fmt.Sprintf(`document.querySelectorAll(".lead-row").length === %d && document.querySelector("[role=note]").innerText.includes("without a contact since")`, min(want.Stale, 50)))
	b.press("Show all leads")
	b.until("and the others", `!location.search && document.querySelectorAll(".lead-row").length === 50`)
	b.open("/team?days=7")
	b.press("Table")
	b.until("the chart is also a table", `document.querySelectorAll(".columns .card tbody")[0].rows.length === 7`)
	b.fits()
	require.Empty(t, b.newProblems())
}
