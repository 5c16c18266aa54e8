// Package phone parses phone numbers as people write them, with the numbering plans of Google's libphonenumber.
package phone

import (
	"fmt"

	"github.com/nyaruka/phonenumbers"
)

// For returns a function that converts a number to E.164, such as +919876543210, and reports whether it is valid. A number
// without a country code is one of that country (ISO 3166-1 alpha-2, upper case). Extensions are dropped: E.164 has none.
func For(country string) (normalize func(number string) (e164 string, ok bool), err error) {
	if !phonenumbers.GetSupportedRegions()[country] {
		return nil, fmt.Errorf("%q is not an ISO 3166 country code such as IN", country)
	}
	return func(number string) (string, bool) {
		parsed, err := phonenumbers.Parse(number, country)
		// Parse accepts "12" as a number.
		if err != nil || !phonenumbers.IsValidNumber(parsed) {
			return "", false
		}
		return phonenumbers.Format(parsed, phonenumbers.E164), true
	}, nil
}

// Zone returns the IANA name of the time zone of a country (ISO 3166-1 alpha-2, upper case): of a country with several, one in which
// many people live. It is UTC for a country that is not known.
func Zone(country string) string {
	example := phonenumbers.GetExampleNumber(country)
	if example == nil {
		return "UTC"
	}
	zones, err := phonenumbers.GetTimezonesForNumber(example)
	switch {
	case err != nil || len(zones) == 0:
		return "UTC"
	case zones[0] == "Asia/Calcutta": // its name until 1993
		return "Asia/Kolkata"
	default:
		return zones[0]
	}
}
