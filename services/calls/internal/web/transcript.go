package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/text"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// formats are how a transcript is written, by the value of the parameter format.
var formats = map[string]struct {
	contentType string
	write       func(call.Call) (string, error)
}{
	"json": {"application/json", asJSON},
	"txt":  {"text/plain; charset=utf-8", asText},
	"md":   {"text/markdown; charset=utf-8", asMarkdown},
	"srt":  {"application/x-subrip; charset=utf-8", asSRT},
	"vtt":  {"text/vtt; charset=utf-8", asVTT},
}

// serveTranscript responds with the transcript as a file.
func serveTranscript(w http.ResponseWriter, _ *http.Request, f call.TranscriptFile) error {
	name := cmp.Or(f.Format, "json")
	format := formats[name]
	content, err := format.write(f.Call)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", format.contentType)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": transcriptName(f.Call) + "." + name}))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "private, no-cache")
	h.Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, content) // fails only if the client has disconnected
	return nil
}

// transcriptName is the name of the recording or the title, without extension and characters that file systems refuse.
func transcriptName(c call.Call) string {
	name := ""
	switch {
	case c.Recording.Filename != nil:
		name = strings.TrimSuffix(*c.Recording.Filename, path.Ext(*c.Recording.Filename))
	case c.Title() != nil:
		name = *c.Title()
	}
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) {
			return '-'
		}
		return r
	}, text.Name(name))
	return cmp.Or(strings.Trim(text.First(name, 100), " ."), "call "+c.Details.RecordedAt.Format("2006-01-02"))
}

// spoken returns the segments of a transcript, each with its text in one line and the name of its speaker, or else the role or the
// label. A transcript without times is one segment.
func spoken(c call.Call) []call.Segment {
	segments := c.Transcript.Segments
	if len(segments) == 0 && c.Transcript.Text != "" {
		whole := call.Segment{Text: c.Transcript.Text}
		if c.DurationSeconds != nil {
			whole.End = *c.DurationSeconds
		}
		segments = []call.Segment{whole}
	}
	lines := make([]call.Segment, 0, len(segments))
	for _, s := range segments {
		if s.Text = strings.Join(strings.Fields(s.Text), " "); s.Text == "" {
			continue
		}
		if s.Speaker != nil {
			who := c.Speakers[*s.Speaker]
			s.Speaker = cmp.Or(who.Name, who.Role, s.Speaker)
		}
		lines = append(lines, s)
	}
	return lines
}

// speaker returns who says a segment with a separator after it, or "".
func speaker(s call.Segment, separator string) string {
	if s.Speaker == nil {
		return ""
	}
	name := strings.Join(strings.Fields(*s.Speaker), " ")
	if name == "" {
		return ""
	}
	return name + separator
}

func asJSON(c call.Call) (string, error) {
	raw, err := json.Marshal(struct {
		ID              string         `json:"id"`
		Title           *string        `json:"title"`
		Language        *string        `json:"language"`
		DurationSeconds *int           `json:"duration_seconds"`
		RecordedAt      time.Time      `json:"recorded_at"`
		Text            string         `json:"text"`
		Speakers        speakers       `json:"speakers"`
		Segments        []call.Segment `json:"segments"`
	}{c.ID, c.Title(), c.Details.Language, whole(c.DurationSeconds), c.Details.RecordedAt, c.Transcript.Text, object(c.Speakers), list(c.Transcript.Segments)})
	return string(raw), err
}

func asText(c call.Call) (string, error) {
	if len(c.Transcript.Segments) == 0 {
		return c.Transcript.Text + "\n", nil
	}
	var out strings.Builder
	for _, s := range spoken(c) {
		out.WriteString(speaker(s, ": ") + s.Text + "\n")
	}
	return out.String(), nil
}

func asMarkdown(c call.Call) (string, error) {
	var out strings.Builder
	title := "Call"
	if c.Title() != nil {
		title = *c.Title()
	}
	fmt.Fprintf(&out, "# %s\n\n%s\n", markdown(title), c.Details.RecordedAt.Format("2 January 2006, 15:04 MST"))
	for _, s := range spoken(c) {
		// A line never begins with the text itself, which could be a list or a heading.
		fmt.Fprintf(&out, "\n**%s** %s\n", clockTime(s.Start), markdown(speaker(s, ": ")+s.Text))
	}
	return out.String(), nil
}

// markdown escapes what has a meaning in the middle of a line of CommonMark or its usual extensions.
func markdown(s string) string {
	return regexp.MustCompile("[\\\\`*_{}\\[\\]<>#|~&$^=!]").ReplaceAllString(strings.Join(strings.Fields(s), " "), `\$0`)
}

// clockTime formats seconds for people: 1:02:03 or 2:03.
func clockTime(seconds float64) string {
	d := milliseconds(seconds).Truncate(time.Second)
	if d < time.Hour {
		return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
}

// milliseconds rounds seconds to whole milliseconds that are not negative.
func milliseconds(seconds float64) time.Duration {
	return time.Duration(math.Round(max(seconds, 0)*1000)) * time.Millisecond
}

// cueTime formats seconds as subtitles have them. separator is that before the milliseconds.
func cueTime(d time.Duration, separator string) string {
	return fmt.Sprintf("%02d:%02d:%02d%s%03d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60, separator, d.Milliseconds()%1000)
}

// cue returns the line with the times of a segment. A subtitle that ends before it begins is never shown.
func cue(s call.Segment, separator string) string {
	start, end := milliseconds(s.Start), milliseconds(s.End)
	return cueTime(start, separator) + " --> " + cueTime(max(end, start+time.Millisecond), separator)
}

func asSRT(c call.Call) (string, error) {
	var out strings.Builder
	for i, s := range spoken(c) {
		fmt.Fprintf(&out, "%d\n%s\n%s\n\n", i+1, cue(s, ","), subRip(speaker(s, ": ")+s.Text))
	}
	return out.String(), nil
}

// subRip separates what players take for an arrow, or for the begin of a tag: the format has no escapes.
func subRip(s string) string {
	s = strings.ReplaceAll(s, "-->", "-- >")
	return regexp.MustCompile(`([<{])([a-zA-Z/\\])`).ReplaceAllString(s, "$1 $2")
}

func asVTT(c call.Call) (string, error) {
	var out strings.Builder
	out.WriteString("WEBVTT\n")
	for _, s := range spoken(c) {
		said := webVTT(s.Text)
		if name := speaker(s, ""); name != "" {
			said = "<v " + webVTT(name) + ">" + said
		}
		fmt.Fprintf(&out, "\n%s\n%s\n", cue(s, "."), said)
	}
	return out.String(), nil
}

// webVTT escapes a text, also the arrow, which may not be in one.
func webVTT(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
