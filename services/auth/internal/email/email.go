// Package email normalizes e-mail addresses: each has one spelling. It refuses characters that people cannot see, because two
// addresses that look alike would be two accounts.
package email

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

const maxLength = 254 // bytes, RFC 5321 with the erratum 1690 of RFC 3696

// Normalize returns the form in which addresses are stored and compared: the local part in NFC with ASCII letters in lower case, as
// mail servers compare it at most, and the domain as DNS has it (IDNA 2008 with the mapping of UTS 46). ok is false for what is not a
// bare address.
func Normalize(text string) (address string, ok bool) {
	local, domain, ok := strings.Cut(strings.TrimSpace(text), "@")
	if !ok || local == "" || !utf8.ValidString(text) || strings.ContainsFunc(local, forbidden) || strings.ContainsFunc(domain, forbidden) {
		return "", false
	}
	domain, err := profile().ToASCII(domain)
	if err != nil || strings.HasSuffix(domain, ".") {
		return "", false
	}
	address = strings.Map(lower, norm.NFC.String(local)) + "@" + domain
	return address, len(address) <= maxLength
}

func profile() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))
}

// lower folds ASCII only: in other scripts, two letters with one lower-case form may be two mailboxes.
func lower(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// forbidden reports whether a character is a delimiter, or one that people cannot see: a space, a control or format character, or
// one that is displayed as nothing.
func forbidden(r rune) bool {
	const brailleBlank = '\u2800'
	return strings.ContainsRune(`@<>"(),:;\`, r) || r == brailleBlank ||
		unicode.In(r, unicode.C, unicode.Z, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
