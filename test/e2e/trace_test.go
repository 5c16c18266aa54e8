package e2e

import (
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/test/fake/openai"
	"github.com/convoflow/convoflow/test/fake/otlp"
	"github.com/convoflow/convoflow/test/fake/script"
)

const (
	// maxSpans is what a person can read: the journey of a call, from the upload to Pabbly's 2xx.
	maxSpans = 80
	// unexplained is the longest part of the journey in which no span says what happens, on an idle machine.
	unexplained = 100 * time.Millisecond
)

// TestTheJourneyOfACallIsOneReadableTrace uploads a call with a trace of its own, and reads it when the webhook has arrived.
func TestTheJourneyOfACallIsOneReadableTrace(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newPlatform(t, f, false, f.settings()...)
	s.start()
	a := s.newAgent()
	who := a.newClient()
	journey := s.anonymous().traceID
	id := a.upload(map[string]string{"client_id": who.ID, "call_type": "discovery"}, "Traceparent", "00-"+journey+"-00f067aa0ba902b7-01").ID
	s.pabbly.WaitFor(t, transcriptionCompleted, 1)

	var spans []otlp.Span
	poll(t, script.Timeout, "the trace is complete", func() bool {
		before := len(spans)
		spans = slices.DeleteFunc(slices.Clone(s.otlp.Spans()), func(span otlp.Span) bool { return span.TraceID != journey })
		return len(spans) == before && len(orphans(spans, journey)) == 0 && slices.ContainsFunc(spans, func(span otlp.Span) bool { return span.Name == "send webhook.delivered" })
	})
	slices.SortFunc(spans, func(a, b otlp.Span) int { return a.Start.Compare(b.Start) })
	for _, span := range spans {
		t.Logf("%8.1f %8.1f ms  %-18s %-9s %s", ms(span.Start.Sub(spans[0].Start)), ms(span.End.Sub(span.Start)), span.Service, span.Kind, span.Name)
	}
	assert.LessOrEqual(t, len(spans), maxSpans)

	for _, name := range []string{"audio probe", "audio decode", "bucket store", "bucket open", "queue calls.transcribe", "queue notify.attempt", "send call.uploaded", "send transcription.completed"} {
		assert.True(t, slices.ContainsFunc(spans, func(span otlp.Span) bool { return span.Name == name }), name)
	}
	for _, span := range spans {
		switch {
		case span.Name == "calls.upload" || span.Name == "gateway.calls.upload":
			assert.Equal(t, "/calls/upload", span.Attributes["http.route"])
		case span.Kind == "producer":
			assert.Equal(t, "kafka", span.Attributes["messaging.system"])
			assert.NotEmpty(t, span.Attributes["messaging.destination.name"])
		case span.Name == "calls.transcribe":
			assert.Equal(t, id, span.Attributes["call.id"])
		}
	}
	explained, end := spans[0].End, spans[0].End
	for _, span := range spans {
		end = slices.MaxFunc([]time.Time{end, span.End}, time.Time.Compare)
	}
	most := max(unexplained, end.Sub(spans[0].Start)/10) // on a busy machine everything takes longer, also what is between two spans
	for _, span := range spans {
		assert.LessOrEqual(t, span.Start.Sub(explained), most, "nothing is known of the time before %s of %s", span.Name, span.Service)
		if span.End.After(explained) {
			explained = span.End
		}
	}
	require.NotEmpty(t, spans)
	for _, span := range s.otlp.Spans() {
		assert.True(t, span.ParentID != "" || span.Service == "convoflow-gateway", "%s of %s begins a trace: only requests of clients do", span.Name, span.Service)
	}
}

// TestTracesInTheBrowser follows an upload on the page of convoflow up --traces.
func TestTracesInTheBrowser(t *testing.T) {
	t.Parallel()
	ai := openai.Start(t)
	s := newPlatform(t, fakes{openai: ai}, false, "OPENAI_BASE_URL="+ai.URL(), "OPENAI_API_KEY="+openai.Key)
	s.units[0].argv = append(s.units[0].argv, "--traces")
	s.start()
	page := ""
	poll(t, script.Timeout, "the address of the page is shown", func() bool {
		page = regexp.MustCompile(`http://127\.0\.0\.1:\d+/traces`).FindString(s.units[0].running().Output.String())
		return page != ""
	})
	a := s.newAgent()
	journey := s.anonymous().traceID
	a.completed(a.upload(nil, "Traceparent", "00-"+journey+"-00f067aa0ba902b7-01").ID)
	poll(t, script.Timeout, "the trace has arrived", func() bool {
		res, err := http.Get(page + "/" + journey)
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		return err == nil && strings.Contains(string(body), "send transcription.completed")
	})

	b := newBrowser(t)
	b.do(chromedp.Navigate(page+"?q=calls.upload"), b.visible(".list a"))
	b.requireFitsPhone()
	b.do(b.click(`.list a[href="/traces/`+journey+`"]`), b.visible(".span"))
	require.Contains(t, valueOf(b, chromedp.Title()), "calls.upload")
	require.Greater(t, valueOf(b, chromedp.Evaluate[int](`document.querySelectorAll(".span").length`)), 10)
	wide := valueOf(b, chromedp.Evaluate[float64](`Math.max(...[...document.querySelectorAll(".bar rect")].map(e => e.getBoundingClientRect().width))`))
	require.Greater(t, wide, 50.0, "pixels of the longest span: the drawing has a size")
	require.NotEqual(t, "rgba(0, 0, 0, 0)", valueOf(b, chromedp.Evaluate[string](`getComputedStyle(document.querySelector(".service")).backgroundColor`)), "the style sheet is allowed")
	b.do(b.click(".span summary"), b.visible(".span[open] dl"))
	require.Contains(t, valueOf(b, chromedp.Text(chromedp.CSS(".span[open]"))), "http.route")
	b.requireFitsPhone()
	require.Empty(t, b.newProblems())
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
