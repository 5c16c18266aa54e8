package followup

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestCalendarFormat(t *testing.T) {
	t.Parallel()
	x := scheduled()
	x.Task, x.Notes = new("Quote; tax, and \\\nmore"), new(strings.Repeat("ü", 80))
	dateless := scheduled()
	dateless.DueDate = nil
	got := string(render([]FollowUp{x, dateless}, time.UTC))
	require.Equal(t, strings.Join([]string{
		"BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Convoflow//Follow-ups//EN", "CALSCALE:GREGORIAN", "METHOD:PUBLISH", "X-WR-CALNAME:Convoflow follow-ups", "X-WR-TIMEZONE:UTC",
		"REFRESH-INTERVAL;VALUE=DURATION:PT15M", "BEGIN:VEVENT", "UID:" + x.ID + "@convoflow", "DTSTAMP:20261124T090000Z", "LAST-MODIFIED:20261124T090000Z", "SEQUENCE:1",
		"DTSTART:20261124T093000Z", "DTEND:20261124T100000Z", `SUMMARY:Quote\; tax\, and \\\nmore`, "DESCRIPTION:" + strings.Repeat("ü", 31), " " + strings.Repeat("ü", 37),
		" " + strings.Repeat("ü", 12), "TRANSP:TRANSPARENT", "END:VEVENT", "END:VCALENDAR", "",
	}, "\r\n"), got)
}

// FuzzText requires that a text cannot end its line, and is read as it was written, without characters that a calendar cannot have.
func FuzzText(f *testing.F) {
	for _, seed := range []string{"", "plain", "a;b,c\\d", "two\nlines", "end\r\nBEGIN:VEVENT", strings.Repeat("é", 100), strings.Repeat("x", 200), "\x00\x7f", "\\n", "🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			t.Skip("the contract accepts UTF-8 only")
		}
		folded := fold("SUMMARY:" + escape(text))
		lines := strings.Split(strings.TrimSuffix(folded, "\r\n"), "\r\n")
		for i, line := range lines {
			require.LessOrEqual(t, len(line), maxLine)
			require.True(t, utf8.ValidString(line))
			require.Equal(t, i > 0, strings.HasPrefix(line, " "), "only continuations begin with a space: %q", folded)
			require.NotContains(t, line, "\n")
		}
		value := strings.TrimPrefix(strings.ReplaceAll(strings.TrimSuffix(folded, "\r\n"), "\r\n ", ""), "SUMMARY:")
		var read strings.Builder
		for i := 0; i < len(value); i++ {
			if value[i] != '\\' {
				require.NotContains(t, ";,", string(value[i]))
				read.WriteByte(value[i])
				continue
			}
			i++
			if value[i] == 'n' {
				read.WriteByte('\n')
			} else {
				read.WriteByte(value[i])
			}
		}
		want := strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' && r != '\n' || r == 0x7f {
				return -1
			}
			return r
		}, strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text))
		require.Equal(t, want, read.String())
	})
}
