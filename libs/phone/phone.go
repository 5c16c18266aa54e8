// Package phone parses phone numbers as people write them, with the numbering plans of Google's libphonenumber.
package phone

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/nyaruka/phonenumbers"
)

// For returns a function that converts a number to E.164, such as +919876543210, and reports whether it is valid. A number
// without a country code is one of that country (ISO 3166-1 alpha-2, upper case). Extensions are dropped: E.164 has none.
func For(country string) (normalize func(number string) (e164 string, ok bool), err error) {
	if !phonenumbers.GetSupportedRegions()[country] {
		return nil, fmt.Errorf("%q is not an ISO 3166 country code such as IN", country)
	}
	return func(number string) (string, bool) {
		parsed, err := phonenumbers.Parse(digits(number), country)
		// Parse accepts "12" as a number.
		if err != nil || !phonenumbers.IsValidNumber(parsed) {
			return "", false
		}
		return phonenumbers.Format(parsed, phonenumbers.E164), true
	}, nil
}

// spreadsheet is how spreadsheets write a long number: 9.19876543210E+11 or 919876543210.0.
var spreadsheet = regexp.MustCompile(`^\s*([0-9])\.([0-9]+)[eE]\+?([0-9]{1,2})\s*$|^\s*([0-9]{8,15})\.0+\s*$`)

// digits returns a number from a spreadsheet as its digits, and any other one as it is. One whose last digits the spreadsheet has
// rounded away stays, and is no phone number: it could be anybody's.
func digits(number string) string {
	found := spreadsheet.FindStringSubmatch(number)
	if found == nil {
		return number
	}
	if found[4] != "" {
		return found[4]
	}
	exponent, err := strconv.Atoi(found[3])
	if err != nil || len(found[2]) != exponent {
		return number
	}
	return found[1] + found[2]
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
