package email_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/services/auth/internal/email"
)

func TestAnAddressHasOneSpelling(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		" Asha.Rao@Example.COM ":  "asha.rao@example.com",
		"asha+crm@example.com":    "asha+crm@example.com",
		"ÄSHA@example.com":        "Äsha@example.com", // ASCII only
		"jose\u0301@example.com":  "jos\u00e9@example.com",
		"\u212aim@example.com":    "kim@example.com", // the sign of kelvin is a K in NFC
		"x@BÜCHER.example":        "x@xn--bcher-kva.example",
		"x@xn--bcher-kva.example": "x@xn--bcher-kva.example",
		"x@bücher。example":        "x@xn--bcher-kva.example", // an ideographic full stop
		"x@faß.example":           "x@xn--fa-hia.example",
		"भारत@भारत.example":       "भारत@xn--h2brj9c.example",
	} {
		got, ok := email.Normalize(text)
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
		again, ok := email.Normalize(got)
		require.True(t, ok)
		require.Equal(t, got, again, "it is normal already")
	}
}

func TestWhatIsNoAddress(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": "", "no @": "asha", "no local part": "@example.com", "no domain": "asha@", "two": "a@b@example.com", "a name": "Asha <asha@example.com>",
		"a list": "a@example.com,b@example.com", "quoted": `"a b"@example.com`, "a space": "as ha@example.com", "a no-break space": "as\u00a0ha@example.com",
		"a line feed": "as\nha@example.com", "NUL": "as\x00ha@example.com", "delete": "as\x7fha@example.com", "a soft hyphen": "as\u00adha@example.com",
		"a zero width space": "as\u200bha@example.com", "a zero width joiner": "as\u200dha@example.com", "right to left": "as\u202eha@example.com",
		"a byte order mark": "asha\ufeff@example.com", "a word joiner": "as\u2060ha@example.com", "a tag": "as\U000e0061ha@example.com",
		"a filler": "as\u3164ha@example.com", "a variation selector": "as\ufe0fha@example.com", "a grapheme joiner": "as\u034fha@example.com",
		"a blank of braille": "as\u2800ha@example.com", "private use": "as\ue000ha@example.com", "no UTF-8": "as\xffha@example.com",
		"an invisible domain": "asha@exam\u00adple.com", "a joiner in the domain": "asha@exam\u200bple.com", "a dot at the end": "asha@example.com.",
		"two dots": "asha@example..com", "a hyphen first": "asha@-example.com", "an underscore": "asha@exa_mple.com", "an address literal": "asha@[192.0.2.1]",
		"a long label": "asha@" + strings.Repeat("x", 64) + ".com", "long": strings.Repeat("x", 243) + "@example.com", "no punycode": "asha@xn--a.example",
		"both directions": "asha@aא.example",
	} {
		_, ok := email.Normalize(text)
		require.False(t, ok, name)
	}
	_, ok := email.Normalize(strings.Repeat("x", 242) + "@example.com")
	require.True(t, ok)
}

func FuzzNormalize(f *testing.F) {
	f.Add("Asha@Example.com")
	f.Add("x@BÜCHER。example")
	f.Fuzz(func(t *testing.T, text string) {
		once, ok := email.Normalize(text)
		if !ok {
			return
		}
		twice, ok := email.Normalize(once)
		require.True(t, ok)
		require.Equal(t, once, twice)
	})
}
