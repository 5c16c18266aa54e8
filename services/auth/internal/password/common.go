package password

import (
	"strings"
	"unicode/utf8"

	"github.com/trustelem/zxcvbn/frequency"
)

// shortestCommon excludes texts that are too short for a password anyway.
const shortestCommon = 8 // characters

// commonPasswords are the passwords that people choose most, in lower case: the list of zxcvbn, 30,000 from leaks.
func commonPasswords() map[string]bool {
	common := map[string]bool{}
	for _, p := range frequency.FrequencyLists["passwords"] {
		if utf8.RuneCountInString(p) >= shortestCommon {
			common[strings.ToLower(p)] = true
		}
	}
	return common
}

// Common reports whether a password is one of the most common ones, regardless of case.
func (h *Hasher) Common(password string) bool { return h.common[strings.ToLower(password)] }
