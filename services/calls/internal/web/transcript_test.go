package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/services/calls/internal/call"
)

func spokenCall() call.Call {
	agent, client := "agent", "Priya <CEO> & co"
	return call.Call{
		ID: "id", Speakers: map[string]call.Speaker{"agent": {Name: new("Agent")}, "other": {Name: new("Nobody")}}, Insights: call.Insights{Title: new("Price *talk* [1]")}, Recording: call.Recording{Key: "k", Filename: new(`a/b"ü.m4a`)},
		Details: call.Details{RecordedAt: time.Date(2026, 11, 24, 9, 25, 0, 0, time.UTC), Language: new("en")}, DurationSeconds: new(3723.4),
		Transcript: &call.Transcript{Text: "all of it", Segments: []call.Segment{
			{Start: -0.2, End: 1.4004, Speaker: &agent, Text: "Good morning\n\n <b>Priya</b> --> 1 < 2 & {\\an8} _so_ #1"},
			{Start: 1.4, End: 1.4, Text: " "},
			{Start: 59.9996, End: 59, Speaker: &client, Text: "- Yes"},
			{Start: 3723.004, End: 3723.4, Text: "Bye"},
		}},
	}
}

func TestFormatsOfATranscript(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"txt": "Agent: Good morning <b>Priya</b> --> 1 < 2 & {\\an8} _so_ #1\nPriya <CEO> & co: - Yes\nBye\n",
		"md": "# Price \\*talk\\* \\[1\\]\n\n24 November 2026, 09:25 UTC\n\n" +
			"**0:00** Agent: Good morning \\<b\\>Priya\\</b\\> --\\> 1 \\< 2 \\& \\{\\\\an8\\} \\_so\\_ \\#1\n\n**1:00** Priya \\<CEO\\> \\& co: - Yes\n\n**1:02:03** Bye\n",
		"srt": "1\n00:00:00,000 --> 00:00:01,400\nAgent: Good morning < b>Priya< /b> -- > 1 < 2 & { \\an8} _so_ #1\n\n" +
			"2\n00:01:00,000 --> 00:01:00,001\nPriya < CEO> & co: - Yes\n\n3\n01:02:03,004 --> 01:02:03,400\nBye\n\n",
		"vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:01.400\n<v Agent>Good morning &lt;b&gt;Priya&lt;/b&gt; --&gt; 1 &lt; 2 &amp; {\\an8} _so_ #1\n\n" +
			"00:01:00.000 --> 00:01:00.001\n<v Priya &lt;CEO&gt; &amp; co>- Yes\n\n01:02:03.004 --> 01:02:03.400\nBye\n",
	} {
		got, err := formats[format].write(spokenCall())
		require.NoError(t, err)
		require.Equal(t, want, got, format)
	}
}

func TestATranscriptWithoutTimesIsOneSubtitle(t *testing.T) {
	t.Parallel()
	c := spokenCall()
	c.Transcript = &call.Transcript{Text: "one\n\ntwo"}
	for format, want := range map[string]string{
		"txt": "one\n\ntwo\n",
		"srt": "1\n00:00:00,000 --> 01:02:03,400\none two\n\n",
		"vtt": "WEBVTT\n\n00:00:00.000 --> 01:02:03.400\none two\n",
	} {
		got, err := formats[format].write(c)
		require.NoError(t, err)
		require.Equal(t, want, got, format)
	}
	c.Transcript.Text = "" // no speech
	for format, want := range map[string]string{"txt": "\n", "srt": "", "vtt": "WEBVTT\n"} {
		got, err := formats[format].write(c)
		require.NoError(t, err)
		require.Equal(t, want, got, format)
	}
}

func TestATranscriptIsAFile(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	require.NoError(t, serveTranscript(w, httptest.NewRequest(http.MethodGet, "/", nil), call.TranscriptFile{Call: spokenCall(), Format: "vtt"}))
	require.Equal(t, "text/vtt; charset=utf-8", w.Header().Get("Content-Type"))
	require.Equal(t, "attachment; filename*=utf-8''a-b-%C3%BC.vtt", w.Header().Get("Content-Disposition"))
	c := spokenCall()
	c.Recording.Filename = nil
	require.Equal(t, "Price -talk- [1]", transcriptName(c))
	c.Insights.Title = nil
	require.Equal(t, "call 2026-11-24", transcriptName(c))
}
