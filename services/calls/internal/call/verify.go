package call

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Kinds of evidence.
const (
	KindActionItem = "action_item"
	KindObjection  = "objection"
	KindNextStep   = "next_step"
)

// minQuote is the shortest quote that proves something, in letters.
const minQuote = 5

// verify finds the quotes of insights in the transcript, where they get their times. A quote that is not there is dropped, and with it
// what only such quotes were to prove. dropped is how many claims that were.
func verify(in Insights, t Transcript) (verified Insights, dropped int) {
	said := newConcordance(t)
	proved, refuted := map[string]bool{}, map[string]bool{}
	var evidence []Evidence
	for _, e := range in.Evidence {
		claim := e.Kind + " " + letters(e.Claim)
		start, ok := said.find(e.Quote)
		if !ok {
			refuted[claim] = true
			dropped++
			continue
		}
		proved[claim] = true
		e.Start = start
		evidence = append(evidence, e)
	}
	invented := func(kind, claim string) bool {
		key := kind + " " + letters(claim)
		return refuted[key] && !proved[key]
	}
	without := func(kind string, list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(item string) bool { return invented(kind, item) })
	}
	in.Evidence = evidence
	in.ActionItems, in.Objections = without(KindActionItem, in.ActionItems), without(KindObjection, in.Objections)
	if in.NextStep != nil && invented(KindNextStep, *in.NextStep) {
		in.NextStep = nil
	}
	return in, dropped
}

// concordance finds quotes in a transcript, whatever their punctuation, case and spaces.
type concordance struct {
	text   string
	starts []place
}

// place is where a segment begins in the text of a concordance.
type place struct {
	offset int
	start  float64
}

func newConcordance(t Transcript) concordance {
	segments := t.Segments
	if len(segments) == 0 {
		segments = []Segment{{Text: t.Text}}
	}
	var c concordance
	var text strings.Builder
	for _, s := range segments {
		c.starts = append(c.starts, place{text.Len(), s.Start})
		text.WriteString(letters(s.Text))
	}
	c.text = text.String()
	return c
}

// find returns when a quote was said.
func (c concordance) find(quote string) (start float64, ok bool) {
	quote = letters(quote)
	if utf8.RuneCountInString(quote) < minQuote {
		return 0, false
	}
	at := strings.Index(c.text, quote)
	if at < 0 {
		return 0, false
	}
	for _, p := range c.starts {
		if p.offset <= at {
			start = p.start
		}
	}
	return start, true
}
