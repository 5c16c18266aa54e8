package call

import (
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestTimesWithoutAZoneAreUTC(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)
	for _, text := range []string{"2026-11-24T09:30:00Z", "2026-11-24T10:30:00+01:00", "2026-11-24T09:30:00", "2026-11-24 09:30:00", "2026-11-24T09:30:00.000000"} {
		got, err := parseTime(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "now", "24.11.2026", "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z"} {
		_, err := parseTime(text)
		require.Error(t, err, text)
	}
}

func FuzzBaseName(f *testing.F) {
	for _, seed := range []string{"a.mp3", "../../etc/passwd", `C:\x\y.wav`, "a\x00b\n", "\xff\xfe", ".", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		name := baseName(sent)
		if name == nil {
			return
		}
		require.True(t, utf8.ValidString(*name))
		require.NotEmpty(t, *name)
		require.LessOrEqual(t, utf8.RuneCountInString(*name), maxFilename)
		require.NotContains(t, *name, "/")
		require.NotContains(t, *name, `\`)
		require.NotContains(t, *name, "\x00")
	})
}
