package speech

import (
	"github.com/convoflow/convoflow/libs/language"
	"github.com/convoflow/convoflow/libs/text"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Everything that a provider returns passes through this file, so that it can always be stored and shown: no text has NUL,
// invalid UTF-8 or control characters, and none is longer than the contract (api/calls.yaml) allows. Texts of insights are
// cleaned and cut by the fitter (schema.go).

// Limits of what a provider returns for one chunk of a recording, which is at most a few hours long, in characters and items.
const (
	maxSpeech   = 1_000_000
	maxSegments = 20_000
	maxSegment  = 10_000
	maxSpeaker  = 200
	maxModel    = 100
	maxMessage  = 300
	maxSeconds  = 24 * 60 * 60 // of a segment's time
)

// cleanTranscript returns a transcript that can be stored. What is over a limit is cut off.
func cleanTranscript(t call.Transcript) call.Transcript {
	clean := call.Transcript{Text: limited(t.Text, maxSpeech)}
	if t.Language != nil {
		clean.Language = cleanLanguage(*t.Language)
	}
	for _, s := range t.Segments[:min(len(t.Segments), maxSegments)] {
		s.Text, s.Start = limited(s.Text, maxSegment), seconds(s.Start)
		s.End = max(s.Start, seconds(s.End))
		if s.Speaker != nil {
			s.Speaker = text.Trimmed(new(text.First(text.Name(*s.Speaker), maxSpeaker)))
		}
		clean.Segments = append(clean.Segments, s)
	}
	return clean
}

// seconds returns a time within a recording. Whatever is not a number becomes 0.
func seconds(s float64) float64 {
	if !(s > 0) { // NaN is not greater either
		return 0
	}
	return min(s, maxSeconds)
}

func limited(s string, most int) string { return text.First(text.Clean(s), most) }

// cleanLanguage returns the code of a language that a provider returns as a name or a code. It is nil for an unknown one.
func cleanLanguage(s string) *string {
	code, ok := language.Code(s)
	if !ok {
		return nil
	}
	return &code
}

// cleanModel returns the name of a model. It is the configured name if the provider returns none.
func cleanModel(s, configured string) string {
	if name := text.First(text.Name(s), maxModel); name != "" {
		return name
	}
	return text.First(text.Name(configured), maxModel)
}

// cleanMessage returns a provider's message for people.
func cleanMessage(s string) string { return text.First(text.Name(s), maxMessage) }
