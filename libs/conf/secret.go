package conf

import (
	"crypto/rand"
	"fmt"
	"strings"
)

// MinSecretLength is the minimum length of SECRET_KEY in characters: 32 random characters have at least 128 bits of entropy in
// any alphabet of 16 or more characters.
const MinSecretLength = 32

// CheckSecret returns the problem with a secret that protects data, if any: it is missing, too short or guessable.
func CheckSecret(name string, s Secret) []string {
	text := s.Reveal()
	advice := "make one with: openssl rand -base64 48"
	switch distinct := distinctRunes(text); {
	case text == "":
		return []string{fmt.Sprintf("%s is not set: %s", name, advice)}
	case len(text) < MinSecretLength:
		return []string{fmt.Sprintf("%s is shorter than %d characters: %s", name, MinSecretLength, advice)}
	case distinct < 10: // 32 random hexadecimal digits have fewer than 10 different ones once in 10,000 times
		return []string{fmt.Sprintf("%s can be guessed (only %d different characters): %s", name, distinct, advice)}
	case isPlaceholder(text):
		return []string{fmt.Sprintf("%s is a placeholder: %s", name, advice)}
	}
	return nil
}

func distinctRunes(s string) int {
	distinct := map[rune]bool{}
	for _, r := range s {
		distinct[r] = true
	}
	return len(distinct)
}

// isPlaceholder recognizes values that were copied from an example file.
func isPlaceholder(s string) bool {
	s = strings.ToLower(s)
	for _, word := range []string{"changeme", "change-me", "change_me", "secret", "password", "example", "your-", "your_", "placeholder"} {
		if strings.Contains(s, word) {
			return true
		}
	}
	return strings.Contains("abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz", s) || strings.HasPrefix(s, "1234567890")
}

// NewSecret returns a random secret of 256 bits that passes CheckSecret.
func NewSecret() string { return rand.Text() + rand.Text() }
