// Package text cleans what people and programs write.
package text

import "strings"

// Trimmed is the text without the space around it; nil when nothing is left.
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

// Clean makes text of another system acceptable: UTF-8 without NUL, which PostgreSQL rejects, and without space around it.
func Clean(s string) string {
	return strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", ""))
}

// First is the first n characters of a text.
func First(s string, n int) string {
	runes := []rune(strings.ToValidUTF8(s, "�"))
	return string(runes[:min(n, len(runes))])
}
