package call

import (
	"cmp"
	"slices"
	"strings"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/text"
)

// Talk says who talked how much. It is known if the speakers are.
type Talk = events.Talk

// talkOf returns the statistics of a call, or nil unless both sides are known to talk.
func talkOf(segments []Segment, speakers map[string]Speaker, duration *float64) *Talk {
	roleOf := func(s Segment) string {
		if s.Speaker == nil {
			return ""
		}
		return text.Of(speakers[*s.Speaker].Role)
	}
	var t Talk
	var seconds = map[string]float64{}
	words, turn, last := 0, Interval{}, ""
	for _, s := range segments {
		role := roleOf(s)
		seconds[role] += s.End - s.Start
		if role != last || t.Turns == 0 {
			t.Turns++
			turn = Interval{s.Start, s.End}
		}
		turn.End, last = max(turn.End, s.End), role
		if role != RoleAgent {
			continue
		}
		t.LongestMonologue = max(t.LongestMonologue, turn.End-turn.Start)
		t.Questions += strings.Count(s.Text, "?") + strings.Count(s.Text, "？") + strings.Count(s.Text, "؟")
		words += len(strings.Fields(s.Text))
	}
	agent, client := seconds[RoleAgent], seconds[RoleClient]
	if agent == 0 || client == 0 {
		return nil
	}
	t.AgentRatio, t.WordsPerMinute = agent/(agent+client), float64(words)/(agent/60)
	if duration != nil {
		t.Silence = max(0, *duration-covered(segments))
	}
	return &t
}

// covered returns the seconds in which somebody talks.
func covered(segments []Segment) (seconds float64) {
	end := 0.0
	for _, s := range segments { // in the order of their start
		seconds += max(0, s.End-max(end, s.Start))
		end = max(end, s.End)
	}
	return seconds
}

// spoken returns a transcript with the speakers, if they are known, by their roles or else their labels.
func spoken(t Transcript, speakers map[string]Speaker) string {
	if !slices.ContainsFunc(t.Segments, func(s Segment) bool { return s.Speaker != nil }) {
		return t.Text
	}
	var b strings.Builder
	last := ""
	for i, s := range t.Segments {
		label := text.Of(s.Speaker)
		switch speaker := cmp.Or(text.Of(speakers[label].Role), label); {
		case i > 0 && speaker == last:
			b.WriteString(" ")
		default:
			if i > 0 {
				b.WriteString("\n")
			}
			if speaker != "" {
				b.WriteString(speaker + ": ")
			}
			last = speaker
		}
		b.WriteString(s.Text)
	}
	return b.String()
}
