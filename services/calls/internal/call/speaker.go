package call

import (
	"maps"
	"slices"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/patch"
	"github.com/convoflow/convoflow/libs/text"
)

// Roles of speakers. They are also the labels of the channels of a stereo recording.
const (
	RoleAgent  = "agent"
	RoleClient = "client"
)

// Speaker is who has a label in the segments.
type Speaker struct {
	Name *string `json:"name"`
	Role *string `json:"role"` // agent, client
}

func (s Speaker) equal(t Speaker) bool { return equal(s.Name, t.Name) && equal(s.Role, t.Role) }

func equal(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// unnamed returns the speaker of a label that nobody has named.
func unnamed(label string) (s Speaker) {
	if label == RoleAgent || label == RoleClient {
		s.Role = &label
	}
	return s
}

// speakersOf returns the speakers of the labels in the segments. Those that a person has named stay, also if this transcript does not
// have their labels.
func speakersOf(segments []Segment, known map[string]Speaker) map[string]Speaker {
	speakers := map[string]Speaker{}
	for label, s := range known {
		if !s.equal(unnamed(label)) {
			speakers[label] = s
		}
	}
	for _, s := range segments {
		if s.Speaker == nil {
			continue
		}
		if _, ok := speakers[*s.Speaker]; !ok {
			speakers[*s.Speaker] = unnamed(*s.Speaker)
		}
	}
	if len(speakers) == 0 {
		return nil
	}
	return speakers
}

// SpeakerUpdate changes who has a label. A field that is null is removed.
type SpeakerUpdate struct {
	Name patch.Field[string] `json:"name"`
	Role patch.Field[string] `json:"role"`
}

// nameSpeakers changes the speakers of labels, which the call must have.
func (c *Call) nameSpeakers(updates map[string]SpeakerUpdate) error {
	var unknown []fault.Field
	for _, label := range slices.Sorted(maps.Keys(updates)) {
		s, ok := c.Speakers[label]
		if !ok {
			unknown = append(unknown, fault.BodyField("speakers", "unknown_speaker", "no segment of the transcript has the speaker "+label))
			continue
		}
		updates[label].Name.Apply(&s.Name)
		updates[label].Role.Apply(&s.Role)
		s.Name = text.Trimmed(s.Name)
		c.Speakers[label] = s
	}
	if unknown != nil {
		return fault.Fields(unknown...)
	}
	return nil
}
