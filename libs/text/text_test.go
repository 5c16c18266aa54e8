package text_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/text"
)

func TestTrimmed(t *testing.T) {
	t.Parallel()
	require.Nil(t, text.Trimmed(nil))
	require.Nil(t, text.Trimmed(new(" \n\t")))
	require.Equal(t, "a b", *text.Trimmed(new(" a b ")))
}

func TestCleanAndFirst(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a�b c", text.Clean(" a\xffb\x00 c\n"))
	require.Equal(t, "a\nb\nc\td é", text.Clean("a\r\nb\rc\td\x1b\x7f\u0085 é\v"))
	require.Equal(t, "क्\u200dष", text.Clean("क्\u200dष"), "joiners are part of words")
	require.Equal(t, "añ", text.First("añb", 2))
	require.Equal(t, "ab", text.First("ab", 5))
	require.Equal(t, "�", text.First("\xff\xffa", 1))
}

func TestNameIsOnePrintableLine(t *testing.T) {
	t.Parallel()
	require.Equal(t, "gpt-4o mini", text.Name(" gpt\u202e-4o\x00 mini\n\u2028\ufeff\u200b\xff "))
	require.Equal(t, "Gespräch 你好", text.Name("Gespräch 你好"))
	require.Empty(t, text.Name("\u2066\u2069\n"))
}
