package call

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTextWithoutTimesIsSpreadOverTheSound(t *testing.T) {
	t.Parallel()
	chunk := Chunk{Start: 100, End: 130, Sound: []Interval{{102, 106}, {120, 124}}}
	whole, dropped := stitch([]Chunk{chunk}, []Transcript{{Text: "Good day. How are?\nI am fine"}})
	require.Equal(t, []Segment{{Start: 102, End: 104.76, Text: "Good day."}, {Start: 104.76, End: 121.23, Text: "How are?"}, {Start: 121.23, End: 124, Text: "I am fine"}}, rounded(whole.Segments))
	require.Equal(t, "Good day. How are?\nI am fine", whole.Text)
	require.InDelta(t, 1, whole.coverage, 0)
	require.Zero(t, dropped)
}

func rounded(segments []Segment) []Segment {
	out := append([]Segment{}, segments...)
	for i := range out {
		out[i].Start, out[i].End = float64(int(out[i].Start*100))/100, float64(int(out[i].End*100))/100
	}
	return out
}

func TestWhatModelsInventIsRemoved(t *testing.T) {
	t.Parallel()
	minute := Chunk{End: 60, Sound: []Interval{{0, 30}}}
	for name, c := range map[string]struct {
		part     Transcript
		want     string
		dropped  int
		coverage float64
	}{
		"speech":               {Transcript{Text: "No no no, that is fine.", Segments: []Segment{{Start: 0, End: 5, Text: "No no no, that is fine."}}}, "No no no, that is fine.", 0, 1},
		"text in silence":      {Transcript{Text: "Hello. Bye.", Segments: []Segment{{Start: 0, End: 5, Text: "Hello."}, {Start: 40, End: 45, Text: "Bye."}}}, "Hello.", 1, 1},
		"times beyond the end": {Transcript{Text: "Hello. Bye.", Segments: []Segment{{Start: 0, End: 5, Text: "Hello."}, {Start: 80, End: 90, Text: "Bye."}}}, "Hello. Bye.", 0, 1},
		"a loop of segments":   {Transcript{Segments: loop(10, "I see."), Text: "x"}, "I see.", 9, 1 - 27.0/30},
		"four times":           {Transcript{Segments: loop(4, "I see."), Text: "I see. I see. I see. I see."}, "I see. I see. I see. I see.", 0, 1},
		"a loop of words":      {Transcript{Text: "well " + strings.TrimSpace(strings.Repeat("you know ", 50))}, "well you know", 0, 1 - 98.0/101},
		"a loop of one word":   {Transcript{Text: "so " + strings.TrimSpace(strings.Repeat("yes ", 8))}, "so yes", 0, 1 - 7.0/9},
		"a noise":              {Transcript{Text: "[Music]"}, "", 1, 1},
		"a stock phrase":       {Transcript{Text: "Thanks for watching! Please subscribe."}, "", 2, 1},
		"in a real call":       {Transcript{Text: "Thanks for watching! I will buy it."}, "Thanks for watching! I will buy it.", 0, 1},
		"nothing":              {Transcript{}, "", 0, 1},
	} {
		whole, dropped := stitch([]Chunk{minute}, []Transcript{c.part})
		require.Equal(t, c.want, whole.Text, name)
		require.Equal(t, c.dropped, dropped, name)
		require.InDelta(t, c.coverage, whole.coverage, 0.01, name)
		require.Equal(t, c.want == "", len(whole.Segments) == 0, name)
	}
}

func loop(n int, text string) []Segment {
	segments := make([]Segment, n)
	for i := range segments {
		segments[i] = Segment{Start: float64(3 * i), End: float64(3*i + 3), Text: text}
	}
	return segments
}

func TestTheChannelsOfAStereoCallAreOneConversation(t *testing.T) {
	t.Parallel()
	agent, client := new(RoleAgent), new(RoleClient)
	whole, _ := stitch(
		[]Chunk{{End: 30, Speaker: agent, Sound: []Interval{{0, 6}, {20, 30}}}, {Start: 5, End: 20, Speaker: client, Sound: []Interval{{7, 19}}}},
		[]Transcript{
			{Text: "Do you like it? Then buy it.", Segments: []Segment{{Start: 0, End: 6, Text: "Do you like it?"}, {Start: 20, End: 30, Text: "Then buy it."}}},
			{Text: "Yes, I do.", Segments: []Segment{{Start: 2, End: 14, Text: "Yes, I do."}}},
		})
	require.Equal(t, "Do you like it?\nYes, I do.\nThen buy it.", whole.Text)
	require.Equal(t, "agent: Do you like it?\nclient: Yes, I do.\nagent: Then buy it.", spoken(whole.Transcript, nil))
	speakers := speakersOf(whole.Segments, map[string]Speaker{"client": {Name: new("Maria"), Role: client}})
	require.Equal(t, map[string]Speaker{"agent": {Role: agent}, "client": {Name: new("Maria"), Role: client}}, speakers, "names stay")
	known := map[string]Speaker{"1A": {Name: new("Maria")}, "1B": {}, "agent": {Role: client}, "client": {Role: client}}
	require.Equal(t, map[string]Speaker{"1A": {Name: new("Maria")}, "agent": {Role: client}}, speakersOf(nil, known), "of other labels, those that a person has named")
	require.Equal(t, "client: Do you like it? Yes, I do. Then buy it.", spoken(whole.Transcript, map[string]Speaker{"agent": {Role: client}}), "the language model gets the roles")
	talk := talkOf(whole.Segments, speakers, new(32.0))
	require.Equal(t, &Talk{AgentRatio: 16.0 / 28, LongestMonologue: 10, Questions: 1, WordsPerMinute: 7 / (16.0 / 60), Silence: 4, Turns: 3}, talk)
	require.Nil(t, talkOf(whole.Segments, nil, nil), "without roles")
	require.Nil(t, talkOf(whole.Segments[:1], speakers, nil), "one side only")
}

func TestSpeakersOfADiarizingModelAreThoseOfTheirPart(t *testing.T) {
	t.Parallel()
	part := Transcript{Text: "Hi.", Segments: []Segment{{Start: 0, End: 1, Speaker: new("A"), Text: "Hi."}}}
	one, _ := stitch([]Chunk{{End: 10}}, []Transcript{part})
	require.Equal(t, "A", *one.Segments[0].Speaker)
	two, _ := stitch([]Chunk{{End: 10}, {Start: 10, End: 20}}, []Transcript{part, part})
	require.Equal(t, "1A", *two.Segments[0].Speaker)
	require.Equal(t, "2A", *two.Segments[1].Speaker, "nobody knows whether it is the same person")
}

func TestQuotesAreFoundInTheTranscript(t *testing.T) {
	t.Parallel()
	transcript := Transcript{Segments: []Segment{
		{Start: 0, End: 4, Text: "Hi Daniel, we liked the demo,"}, {Start: 4, End: 9, Text: "but the price is higher than we expected."},
		{Start: 9, End: 15, Text: "Please send me the proposal by Friday."},
	}}
	in, dropped := verify(Insights{
		ActionItems: []string{"Send the proposal", "Give 50 % discount", "Call on Monday"}, Objections: []string{"Price"}, NextStep: new("Sign the contract"),
		Evidence: []Evidence{
			{Kind: KindActionItem, Claim: "send the proposal.", Quote: "please SEND me the proposal"},
			{Kind: KindActionItem, Claim: "Give 50 % discount", Quote: "I give you fifty percent"},
			{Kind: KindObjection, Claim: "Price", Quote: "the price is invented"},
			{Kind: KindObjection, Claim: "Price", Quote: "demo, but the price – is higher"},
			{Kind: KindNextStep, Claim: "Sign the contract", Quote: "hi"},
		},
	}, transcript)
	require.Equal(t, 3, dropped)
	require.Equal(t, []string{"Send the proposal", "Call on Monday"}, in.ActionItems, "one without any quote stays")
	require.Equal(t, []string{"Price"}, in.Objections)
	require.Nil(t, in.NextStep)
	require.Equal(t, []Evidence{
		{Kind: KindActionItem, Claim: "send the proposal.", Quote: "please SEND me the proposal", Start: 9},
		{Kind: KindObjection, Claim: "Price", Quote: "demo, but the price – is higher", Start: 0},
	}, in.Evidence)
	in, dropped = verify(Insights{Evidence: []Evidence{{Kind: KindObjection, Claim: "x", Quote: "¡¡¡"}}}, Transcript{Text: "Hello there"})
	require.Equal(t, 1, dropped)
	require.Empty(t, in.Evidence)
}
