// Package text cleans texts from people and other programs. It owns no rule about their meaning.
package text

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Of returns a text, or "" for none.
func Of(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Trimmed returns the text without leading and trailing white space, or nil if nothing is left.
func Trimmed(s *string) *string {
	if s == nil {
		return nil
	}
	t := strings.TrimSpace(*s)
	if t == "" {
		return nil
	}
	return &t
}

var email = regexp.MustCompile(`^[^@\s<>"(),:;\\]+@[^@\s<>"(),:;\\]+\.[^@\s<>"(),:;\\.]+$`)

// IsEmail reports whether a text is an e-mail address, as forms take it: without a display name, with a domain that has a dot.
func IsEmail(s string) bool { return email.MatchString(s) }

// Clean makes text from another system storable and printable: valid UTF-8, without control characters except tabs and line
// breaks, and trimmed. PostgreSQL rejects NUL.
func Clean(s string) string {
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.ToValidUTF8(s, "�"))
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s))
}

// Name makes a name from another system a single line of printable characters, trimmed. Characters that are invisible or change
// the direction of the text are removed (Unicode's categories Cc, Cf, Co, Cs, Zl and Zp).
func Name(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, s))
}

// First returns the first n characters of a text.
func First(s string, n int) string {
	runes := []rune(strings.ToValidUTF8(s, "�"))
	return string(runes[:min(n, len(runes))])
}
