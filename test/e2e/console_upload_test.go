package e2e

import (
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

const slowUpload = 100_000 // bytes per second

// uploads sends files that the platform takes and files that it refuses. What it could not be sent yet survives a reload.
func uploads(t *testing.T, s *stack, _ *agent) {
	a := s.newAgent() // who has no other calls
	b := loggedIn(t, s, a)
	b.open("/calls")
	b.dropFile("notes.txt", 2000)
	b.until("no audio is explained", `document.querySelector(".upload")?.innerText.includes("Choose an audio file")`)
	b.dropFile("long.wav", 3<<20)
	b.until("too large is explained", `[...document.querySelectorAll(".upload")].some(e => e.innerText.includes("Cut the recording"))`)

	b.do(chromedp.Evaluate[chromedp.Void](`XMLHttpRequest.prototype.send = function () { this.onerror() }`))
	b.dropSample("kept.ogg")
	b.until("the lost connection is explained", `[...document.querySelectorAll(".upload")].some(e => e.innerText.includes("The recording stays here"))`)
	require.Empty(t, a.ids("/calls"))
	b.do(chromedp.Reload())
	poll(t, jobTimeout, "the upload goes on after a reload", func() bool { return len(a.ids("/calls")) == 1 })
	b.until("it is in the list", `document.querySelector("main .list")?.innerText.length > 0`)
	_, err := chromedp.Call(b.ctx, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		MatchedNetworkConditions: []*network.Conditions{{DownloadThroughput: -1, UploadThroughput: slowUpload}},
	})
	require.NoError(t, err)
	b.dropFile("slow.wav", 3*slowUpload)
	b.until("its progress", `[...document.querySelectorAll(".upload progress")].some(e => e.value > 0 && e.value < 1)`)
	b.fits()
	for _, p := range b.newProblems() {
		require.Regexp(t, "422|413", p, "the browser notes both refusals")
	}
}

// recordings records with the microphone of the browser, which beeps. A recording whose page is closed is sent
// by another that is open.
func recordings(t *testing.T, s *stack) {
	a := s.newAgent()
	b := loggedIn(t, s, a)
	b.open("/calls")
	b.press("Record")
	b.until("it records", `document.querySelector(".recording [role=timer]")?.innerText > "0:00"`)
	b.until("it hears something", `document.querySelector(".recording meter")?.value > 0`)
	b.open("/clients") // it goes on on other pages
	b.press("Stop and send")
	poll(t, jobTimeout, "the recording is a call", func() bool { return len(a.ids("/calls")) == 1 })
	call := a.completed(a.ids("/calls")[0])
	require.Regexp(t, `^Recorded .*\.webm$`, call.Filename)

	closed := b.tab()
	closed.do(chromedp.Navigate(a.url + "/console/calls"))
	closed.press("Record")
	const parts = `new Promise(resolve => { const open = indexedDB.open("convoflow"); open.onsuccess = () => {
		const count = open.result.transaction("chunks").objectStore("chunks").count(); count.onsuccess = () => { open.result.close(); resolve(count.result) } } })`
	poll(t, pageTimeout, "a part is stored", func() bool { return valueOf(closed, chromedp.Evaluate[int](parts, chromedp.EvalAwaitPromise)) > 0 })
	require.Empty(t, closed.newProblems())
	b.do(chromedp.Reload())
	const waits = `navigator.locks.query().then(all => all.pending.some(lock => lock.name.startsWith("recording ")))`
	poll(t, pageTimeout, "the next page waits for the one that records", func() bool { return valueOf(b, chromedp.Evaluate[bool](waits, chromedp.EvalAwaitPromise)) })
	closed.close()
	poll(t, jobTimeout, "it sends what was recorded", func() bool { return len(a.ids("/calls")) == 2 })
	poll(t, pageTimeout, "and forgets it", func() bool { return valueOf(b, chromedp.Evaluate[int](parts, chromedp.EvalAwaitPromise)) == 0 })

	full := b.tab() // whose browser has no room for the file, so that it is sent from memory
	full.do(chromedp.Navigate(a.url + "/console/calls"))
	full.press("Record")
	poll(t, pageTimeout, "a part of it is stored", func() bool { return valueOf(full, chromedp.Evaluate[int](parts, chromedp.EvalAwaitPromise)) > 0 })
	b.do(chromedp.Reload())
	poll(t, pageTimeout, "the other page waits for it", func() bool { return valueOf(b, chromedp.Evaluate[bool](waits, chromedp.EvalAwaitPromise)) })
	full.do(chromedp.Evaluate[chromedp.Void](`IDBObjectStore.prototype.put = () => { throw new DOMException("no room", "QuotaExceededError") }`))
	full.press("Stop and send")
	poll(t, jobTimeout, "the recording without room is a call", func() bool { return len(a.ids("/calls")) == 3 })
	poll(t, pageTimeout, "nothing of it is left", func() bool { return valueOf(b, chromedp.Evaluate[int](parts, chromedp.EvalAwaitPromise)) == 0 })
	poll(t, pageTimeout, "the other page waits no more", func() bool { return !valueOf(b, chromedp.Evaluate[bool](waits, chromedp.EvalAwaitPromise)) })
	require.False(t, valueOf(b, chromedp.Evaluate[bool](`performance.getEntriesByType("resource").some(e => e.name.endsWith("/calls/upload"))`)), "and has sent nothing")
	require.Empty(t, full.newProblems())
	b.fits()
	require.Empty(t, b.newProblems())
}
