package conf

import (
	"crypto/rand"
	"fmt"
	"strings"
)

// MinSecretLength is how long a SECRET_KEY must be, in characters: 32 random ones carry at least 128 bits in any
// alphabet of 16 or more letters.
const MinSecretLength = 32

// CheckSecret returns what is wrong with a secret that protects data: too short, or so regular that it can be guessed.
func CheckSecret(name string, s Secret) []string {
	text := s.Reveal()
	advice := "make one with: openssl rand -base64 48"
	switch distinct := distinctRunes(text); {
	case text == "":
		return []string{fmt.Sprintf("%s is not set: %s", name, advice)}
	case len(text) < MinSecretLength:
		return []string{fmt.Sprintf("%s is shorter than %d characters: %s", name, MinSecretLength, advice)}
	case distinct < 10: // 32 characters out of 16 letters have fewer than 10 different ones once in 10,000 times
		return []string{fmt.Sprintf("%s can be guessed (only %d different characters): %s", name, distinct, advice)}
	case isPlaceholder(text):
		return []string{fmt.Sprintf("%s is a placeholder: %s", name, advice)}
	}
	return nil
}

func distinctRunes(s string) int {
	seen := map[rune]bool{}
	for _, r := range s {
		seen[r] = true
	}
	return len(seen)
}

// isPlaceholder recognizes what people leave in from an example file.
func isPlaceholder(s string) bool {
	s = strings.ToLower(s)
	for _, word := range []string{"changeme", "change-me", "change_me", "secret", "password", "example", "your-", "your_", "placeholder"} {
		if strings.Contains(s, word) {
			return true
		}
	}
	return strings.Contains("abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz", s) || strings.HasPrefix(s, "1234567890")
}

// NewSecret makes a secret that passes CheckSecret: 256 random bits.
func NewSecret() string { return rand.Text() + rand.Text() }
