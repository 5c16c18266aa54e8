// Package text cleans texts from people and other programs. It owns no rule about their meaning.
package text

import "strings"

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

// Clean makes text from another system storable: valid UTF-8, without NUL bytes, which PostgreSQL rejects, and trimmed.
func Clean(s string) string {
	return strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", ""))
}

// First returns the first n characters of a text.
func First(s string, n int) string {
	runes := []rune(strings.ToValidUTF8(s, "�"))
	return string(runes[:min(n, len(runes))])
}
