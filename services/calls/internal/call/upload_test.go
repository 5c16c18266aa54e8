package call

import (
	"path"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestAFileHasTheExtensionOfItsContent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sent, contentType, want string
	}{
		{"call.m4a", "audio/mp4", "call.m4a"},
		{"call.MP4", "audio/mp4", "call.MP4"},
		{"call.mp3", "audio/ogg", "call.ogg"},
		{"invoice.exe", "audio/mpeg", "invoice.mp3"},
		{"invoice.mp3.exe", "audio/mpeg", "invoice.mp3.mp3"},
		{"page.html", "audio/wav", "page.wav"},
		{"recording", "audio/flac", "recording.flac"},
		{"call of 12.05", "audio/aac", "call of 12.05.aac"},
		{"v1.2 with Maria", "audio/aac", "v1.2 with Maria.aac"},
		{"a\u202egpj.exe", "audio/amr", "agpj.amr"},
		{"a\u2066\u200b\ufeff\u2028\x00\x1b b.3gp", "audio/3gpp", "a b.3gp"},
		{".mp3", "audio/mpeg", "mp3.mp3"},
		{"../../etc/passwd", "audio/webm", "passwd.webm"},
		{"a.mpeg", "video/mpeg", "a.mpeg"},
		{strings.Repeat("ä", 300) + ".wav", "audio/wav", strings.Repeat("ä", 251) + ".wav"},
	} {
		require.Equal(t, c.want, *fileName(c.sent, c.contentType), c.sent)
	}
	require.Nil(t, fileName("\u202e..", "audio/wav"))
}

func FuzzFileName(f *testing.F) {
	for _, seed := range []string{"a.mp3", "../../etc/passwd", `C:\x\y.wav`, "a\x00b\n", "\xff\xfe", ".", "", "\u202egpj.exe", "a. .b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		name := fileName(sent, "audio/ogg")
		if name == nil {
			return
		}
		require.True(t, utf8.ValidString(*name))
		require.LessOrEqual(t, utf8.RuneCountInString(*name), maxFilename)
		require.NotContains(t, *name, "/")
		require.NotContains(t, *name, `\`)
		require.Negative(t, strings.IndexFunc(*name, func(r rune) bool { return !unicode.IsGraphic(r) }))
		require.Contains(t, extensions["audio/ogg"], strings.ToLower(strings.TrimPrefix(path.Ext(*name), ".")))
		require.False(t, slices.Contains([]string{".", ".."}, *name))
	})
}
