package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

const (
	longCall     = 2 * 60 * 60 // seconds
	longSegments = 1300
	mostNodes    = 12_000 // of a page with two hours of transcript
	mostPictures = 12     // of the waveform, for two seeks and some seconds of playing
)

// twoHours requires that a call of two hours is played, searched and drawn like a short one. It reports what a user feels.
func twoHours(t *testing.T, s *stack, a *agent) {
	id := a.completed(a.upload(nil).ID).ID
	var call map[string]any
	a.get("/calls/" + id).must(http.StatusOK).into(&call)
	var segments []map[string]any
	for i := range longSegments {
		start := float64(i) * longCall / longSegments
		segments = append(segments, map[string]any{"speaker": fmt.Sprintf("S%d", 1+i%2), "start": start, "end": start + 5, "text": fmt.Sprintf("Sentence number %d, in which somebody says what was agreed and asks what comes next.", i)})
	}
	call["segments"], call["duration_seconds"] = segments, longCall
	proxy := startBetween(t, a.url)
	proxy.answers = map[string]http.Handler{
		"/calls/" + id: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(call)
		}),
		"/calls/" + id + "/audio": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "silence.wav", time.Time{}, io.NewSectionReader(silence{}, 0, wavHeader+longCall*wavRate))
		}),
	}
	through := *a
	through.url = proxy.url
	b := loggedIn(t, s, &through)
	b.do(chromedp.Navigate(proxy.url + "/console/calls/" + id))
	b.do(chromedp.Evaluate[chromedp.Void](`window.felt = {lcp: 0, shift: 0, inp: 0};
		new PerformanceObserver(l => l.getEntries().forEach(e => felt.lcp = e.startTime)).observe({type: "largest-contentful-paint", buffered: true});
		new PerformanceObserver(l => l.getEntries().forEach(e => { if (!e.hadRecentInput) felt.shift += e.value })).observe({type: "layout-shift", buffered: true});
		new PerformanceObserver(l => l.getEntries().forEach(e => { if (e.interactionId) felt.inp = Math.max(felt.inp, e.duration) })).observe({type: "event", durationThreshold: 16, buffered: true})`))
	b.until("all sentences", fmt.Sprintf(`document.querySelectorAll("[data-i]").length === %d`, longSegments))
	nodes := valueOf(b, chromedp.Evaluate[int](`document.querySelectorAll("*").length`))
	require.LessOrEqual(t, nodes, mostNodes)
	b.do(chromedp.Evaluate[chromedp.Void](`(() => { const g = CanvasRenderingContext2D.prototype, clear = g.clearRect; window.pictures = 0; g.clearRect = function (...of) { pictures++; clear.apply(this, of) } })()`))

	b.do(chromedp.SendKeys(chromedp.CSS(".find input"), "number 700,"))
	b.until("a sentence of the second hour is found", `document.querySelector(".find").innerText.includes("1 of 1")`)
	b.do(chromedp.Evaluate[chromedp.Void](`[...document.querySelectorAll(".turn")].find(e => e.textContent.includes("number 700,")).querySelector(".stamp").focus()`), chromedp.KeyEvent("\r"))
	b.until("it plays from there, and the sentence is in view", `(() => { const r = document.querySelector(".now")?.getBoundingClientRect(), audio = document.querySelector("audio");
		return audio.currentTime > 3600 && !audio.paused && r?.top > 0 && r.bottom < innerHeight })()`)
	b.do(chromedp.Evaluate[chromedp.Void](`document.activeElement.blur()`), chromedp.KeyEvent("l"))
	b.until("10 seconds on the next sentences are lit and in view", `(() => { const e = document.querySelector(".now"), r = e?.getBoundingClientRect();
		return Number(e?.dataset.i) > 700 && r.top > 0 && r.bottom < innerHeight })()`)
	from := valueOf(b, chromedp.Evaluate[float64](`document.querySelector("audio").currentTime`))
	b.until("it has played for a second", fmt.Sprintf(`document.querySelector("audio").currentTime > %f`, from+1))
	b.do(chromedp.KeyEvent("k"))
	require.LessOrEqual(t, valueOf(b, chromedp.Evaluate[int](`pictures`)), mostPictures, "the waveform is drawn when it has moved by a pixel, and not with every frame")
	felt := valueOf(b, chromedp.Evaluate[map[string]float64](`felt`))
	t.Logf("two hours: %d nodes, largest paint after %.0f ms, longest interaction %.0f ms, layout shift %.3f", nodes, felt["lcp"], felt["inp"], felt["shift"])

	hostile := `<img src=x onerror="document.title='owned'">` + strings.Repeat("W", 10_000) + " \u202eمرحبا بالعالم 👩‍👩‍👧"
	segments[3]["text"] = hostile
	call["summary"], call["next_step"], call["audio_filename"] = hostile, hostile, hostile
	b.do(chromedp.Reload())
	b.until("all sentences again", fmt.Sprintf(`document.querySelectorAll("[data-i]").length === %d`, longSegments))
	b.fits()
	require.NotEqual(t, "owned", valueOf(b, chromedp.Title()))
	require.Empty(t, b.newProblems())
}

const wavRate = 8000 // bytes per second: 8 bit, mono

// silence is a WAV file of two hours that takes no memory.
type silence struct{}

func (silence) ReadAt(p []byte, at int64) (int, error) {
	for i := range p {
		p[i] = 128
	}
	if header := wav(longCall*wavRate, wavRate, 1, 1); at < int64(len(header)) {
		copy(p, header[at:])
	}
	return len(p), nil
}

// speakers names the two speakers of a stereo recording.
func speakers(t *testing.T, s *stack, a *agent) {
	const rate, seconds = 8000, 16
	sound := wav(rate*seconds*4, rate, 2, 2)
	for i := range rate * seconds {
		tone := uint16(int16(9000 * math.Sin(2*math.Pi*440*float64(i)/rate)))
		left, right := tone, uint16(0)
		if i/rate/4%2 == 1 { // they take turns of four seconds
			left, right = right, left
		}
		sound = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(sound, left), right)
	}
	var made call
	a.post("/calls/upload", recording("stereo.wav", bytes.NewReader(sound), int64(len(sound)), nil)).must(http.StatusAccepted).into(&made)
	a.completed(made.ID)
	b := loggedIn(t, s, a)
	b.open("/calls/" + made.ID)
	b.press("Name the speakers")
	b.until("both", `document.querySelector("dialog [name='name-1']")`)
	b.fill("name-1", "Priya <b>")
	b.press("Save")
	b.until("the name in the transcript", `[...document.querySelectorAll(".speaker")].some(e => e.innerText === "Priya <b>")`)
	b.until("who talked how much", `document.querySelector("main").innerText.includes("Who talked")`)
	b.fits()
	require.Empty(t, b.newProblems())
}
