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
	require.Equal(t, "añ", text.First("añb", 2))
	require.Equal(t, "ab", text.First("ab", 5))
	require.Equal(t, "�", text.First("\xff\xffa", 1))
}
