package call

import (
	"slices"
	"strings"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/text"
)

// Roles of speakers. They are also the labels of the channels of a stereo recording.
const (
	RoleAgent  = "agent"
	RoleClient = "client"
)

// Talk says who talked how much. It is known if the speakers are.
type Talk = events.Talk

// speakersOf returns the speakers of the labels in the segments. Those that are known keep their names and roles, and stay.
func speakersOf(segments []Segment, known map[string]Speaker) map[string]Speaker {
	speakers := map[string]Speaker{}
	for label, s := range known {
		speakers[label] = s
	}
	for _, s := range segments {
		if s.Speaker == nil {
			continue
		}
		if _, ok := speakers[*s.Speaker]; ok {
			continue
		}
		var role *string
		if *s.Speaker == RoleAgent || *s.Speaker == RoleClient {
			role = s.Speaker
		}
		speakers[*s.Speaker] = Speaker{Role: role}
	}
	if len(speakers) == 0 {
		return nil
	}
	return speakers
}

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

// spoken returns a transcript with the speakers, if they are known.
func spoken(t Transcript) string {
	if !slices.ContainsFunc(t.Segments, func(s Segment) bool { return s.Speaker != nil }) {
		return t.Text
	}
	var b strings.Builder
	last := ""
	for i, s := range t.Segments {
		switch speaker := text.Of(s.Speaker); {
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
