package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

	for _, name := range []string{"audio probe", "audio decode", "bucket store", "bucket open", "queue calls.transcribe", "send call.uploaded", "send transcription.completed"} {
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
	explained := spans[0].End
	for _, span := range spans {
		assert.LessOrEqual(t, span.Start.Sub(explained), unexplained, "nothing is known of the time before %s of %s", span.Name, span.Service)
		if span.End.After(explained) {
			explained = span.End
		}
	}
	require.NotEmpty(t, spans)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
