package store

import (
	"strings"
	"unicode/utf8"

	"github.com/convoflow/convoflow/libs/pg/table"
)

// What searches look through, as in the indexes clients_search and leads_search.
const (
	searchedClient = `name || chr(1) || coalesce(company, '') || chr(1) || coalesce(email, '') || chr(1) || coalesce(phone, '')`
	searchedLead   = `name || chr(1) || coalesce(phone, raw_phone, '') || chr(1) || coalesce(email, '') || chr(1) || coalesce(source_campaign, '')`
)

// minTrigrams is the length from which a search finds its rows in an index.
const minTrigrams = 3

// search adds the condition that one of the searched texts contains q, regardless of case. The trigrams of q are found in an index;
// the text then shows whether they are in the right order. A phone number may be written with spaces or in its national form.
// A shorter q, which somebody is still typing, finds the names that begin with it: an index has those too.
func search(w *table.Where, searched, q string) {
	q = strings.TrimSpace(strings.ReplaceAll(q, "\x01", "")) // what separates the texts
	if q == "" {
		return
	}
	if utf8.RuneCountInString(q) < minTrigrams {
		w.And("lower(name) ~>=~ lower(?) and lower(name) ~<~ (lower(?) || chr(1114111))", q, q) // the last code point
		return
	}
	var either []string
	var values []any
	contains := func(q string) {
		// The planner takes an ilike for rare, and reads the whole table for a word that is in every row; of strpos it knows nothing,
		// and goes by the trigrams.
		either = append(either, "(strpos(lower("+searched+"), lower(?)) > 0 and trigrams("+searched+") @> trigrams(?))")
		values = append(values, q, q)
	}
	contains(q)
	if digits := phoneDigits(q); len(digits) >= minTrigrams && digits != q {
		contains(digits)
	}
	w.And(strings.Join(either, " or "), values...)
}

// phoneDigits returns the digits of a phone number in which people put spaces, brackets and a zero of the national form; it is empty
// for any other text.
func phoneDigits(q string) string {
	digits := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9':
			return r
		case strings.ContainsRune(" +-().\u00a0", r):
			return -1
		default:
			return 'x'
		}
	}, q)
	if strings.Contains(digits, "x") {
		return ""
	}
	return strings.TrimLeft(digits, "0")
}
