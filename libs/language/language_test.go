package language_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/language"
)

func TestALanguageHasOneCode(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"en": "en", "EN": "en", " en ": "en", "english": "en", "English": "en", "en-US": "en", "zh-Hant-TW": "zh", "zu": "zu", "aa": "aa",
		"haitian creole": "ht", "luba-katanga": "lu", "jw": "jv", "yue": "zh", "castilian": "es",
	} {
		code, ok := language.Code(text)
		require.True(t, ok, text)
		require.Equal(t, want, code, text)
	}
	for _, text := range []string{"", "xx", "klingon", "e", "eng", "en us", "english\x00", "-", ":", "_", ",", "haitian_creole", "en:english"} {
		_, ok := language.Code(text)
		require.False(t, ok, text)
	}
	require.True(t, language.IsCode("de"))
	for _, text := range []string{"DE", "german", "de-AT", "xx"} {
		require.False(t, language.IsCode(text), text)
	}
}
