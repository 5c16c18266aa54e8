package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// receiver is an endpoint of webhooks that can refuse.
type receiver struct {
	mu       sync.Mutex
	status   int
	received map[string]int // by webhook-id, those it took
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	_, _ = io.Copy(io.Discard, request.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	w.WriteHeader(r.status)
	_, _ = fmt.Fprintf(w, "<b>the receiver says %d</b>", r.status)
	if r.status == http.StatusOK {
		r.received[request.Header.Get("webhook-id")]++
	}
}

func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) took(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.received[id]
}

// webhooks makes a webhook, tests it, sees a failed delivery, sends it again after a count, and cancels a replay.
func webhooks(t *testing.T, s *stack, a *agent) {
	to := &receiver{status: http.StatusOK, received: map[string]int{}}
	server := httptest.NewServer(to)
	t.Cleanup(server.Close)
	b := loggedIn(t, s, a)
	b.open("/admin/webhooks")
	b.until("how to connect Pabbly", `document.querySelector("main").innerText.includes("Pabbly in 4 steps")`)
	b.press("Add a webhook")
	b.until("the form", `document.querySelector("dialog [name=url]")`)
	b.fill("url", server.URL+"/hook")
	b.fill("description", "Story eleven")
	b.do(chromedp.Focus(chromedp.CSS(".choices input")), chromedp.KeyEvent(" "))
	b.do(chromedp.Focus(chromedp.CSS(`.choices [value="lead.wrong_number"]`)), chromedp.KeyEvent(" ")) // which no other story makes happen
	b.press("Add the webhook")
	b.until("the secret", `document.querySelector("dialog .secret code")?.innerText.startsWith("whsec_")`)
	secret := valueOf(b, chromedp.Evaluate[string](`document.querySelector(".secret code").innerText`))
	b.press("I have copied it")
	b.until("its page", `document.querySelector("h1")?.innerText === "Story eleven"`)
	id := a.ids("/webhooks")[0]
	require.NotContains(t, string(a.get("/webhooks/"+id).body)+valueOf(b, chromedp.Evaluate[string](`document.documentElement.outerHTML`)), secret, "it is shown once")

	b.press("Send a test")
	b.until("what the receiver said, as text", `document.querySelector(".test-result")?.innerText.includes("<b>the receiver says 200</b>")`)
	b.press("Rotate")
	b.press("Make a new secret")
	b.until("the new secret, once", `document.querySelector("dialog .secret code")?.innerText.startsWith("whsec_") && document.querySelector("dialog .secret code").innerText !== `+fmt.Sprintf("%q", secret))
	b.press("I have copied it")
	b.until("the former signs too", `document.querySelector("main").innerText.includes("Two secrets")`)

	to.answer(http.StatusInternalServerError)
	a.do(http.MethodPatch, "/leads/"+a.newLead(), map[string]any{"intent_category": "wrong_number"}).must(http.StatusOK)
	of := "/webhooks/deliveries?webhook_id=" + id
	poll(t, jobTimeout, "an attempt has failed", func() bool { return len(a.ids(of+"&status=retrying")) == 1 })
	failed := a.ids(of)[0]
	b.open("/admin/deliveries/" + failed)
	b.until("the attempt with its answer", `document.querySelector(".timeline")?.innerText.includes("the receiver says 500") && document.querySelector("main").innerText.includes("next attempt")`)
	to.answer(http.StatusOK)
	poll(t, jobTimeout, "it is delivered in the end", func() bool { return len(a.ids(of+"&status=delivered")) == 1 })
	var sent struct {
		EventID string `json:"event_id"`
	}
	a.get("/webhooks/deliveries/" + failed).must(http.StatusOK).into(&sent)

	b.open("/admin/deliveries?webhook_id=" + id + "&status=delivered")
	b.press("Replay…")
	b.until("the count is first", `document.querySelector("dialog [role=status]")?.innerText.includes("1 delivery matches")`)
	require.Len(t, a.ids(of), 1, "counting sends nothing")
	b.press("Send 1 again")
	b.press("Show them")
	poll(t, jobTimeout, "it has arrived twice", func() bool { return to.took(sent.EventID) == 2 })

	b.open("/admin/webhooks/" + id)
	b.press("Pause")
	b.until("it is paused", `document.querySelector(".facts").innerText.includes("Paused")`)
	b.open("/admin/deliveries/" + failed)
	b.press("Send again")
	b.until("the replay", `location.search.startsWith("?replay_id=") && document.querySelector("main .list")?.innerText.includes("Held")`)
	b.press("Cancel the replay")
	b.until("it is canceled", `document.querySelector("main .list")?.innerText.includes("Its replay was canceled")`)
	b.fits()
	b.open("/admin/webhooks/" + id)
	b.fits()
	b.press("Delete this webhook")
	b.press("Delete the webhook")
	b.until("it is gone", `location.pathname === "/console/admin/webhooks" && document.querySelector("main .list")?.innerText.includes("Story eleven") === false`)
	require.Empty(t, b.newProblems())
}
