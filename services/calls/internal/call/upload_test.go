package call

import (
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

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
