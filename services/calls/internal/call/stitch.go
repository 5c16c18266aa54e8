package call

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// minCoverage is the share of the speech below which a transcript is partial.
const minCoverage = 0.9

const (
	soundPadding = 0.5 // seconds by which the times of models are off
	loopSegments = 5   // equal segments in a row that nobody says
	loopWord     = 8   // times the same word in a row that nobody says
	loopPhrase   = 5   // times the same phrase in a row that nobody says
	longestLoop  = 12  // words of a phrase
)

// stitch joins the transcripts of chunks, with times from the start of the recording. It drops what models invent: text at times at
// which the recording is silent, phrases that they repeat without end, and the phrases with which they answer to music and noise.
func stitch(chunks []Chunk, parts []Transcript) (whole transcription, dropped int) {
	var texts []string
	var sound, missing float64
	twoChannels := false
	for i, part := range parts {
		chunk := chunks[i]
		if whole.Language == nil {
			whole.Language = part.Language
		}
		twoChannels = twoChannels || chunk.Speaker != nil
		segments := part.Segments
		if len(segments) == 0 {
			segments = estimate(part.Text, chunk)
		} else {
			segments = shifted(segments, chunk.Start)
		}
		said, lost := withoutInvented(segments, chunk)
		text := part.Text
		if len(said) < len(segments) || lost > 0 {
			dropped += len(segments) - len(said)
			text = joined(said, " ")
		}
		for j, s := range said {
			if chunk.Speaker != nil {
				said[j].Speaker = chunk.Speaker
			} else if s.Speaker != nil && len(parts) > 1 { // a model names the speakers of each part anew
				said[j].Speaker = new(strconv.Itoa(i+1) + *s.Speaker)
			}
		}
		sound += length(chunk.sound())
		missing += lost
		whole.Segments = append(whole.Segments, said...)
		if text != "" {
			texts = append(texts, text)
		}
	}
	slices.SortStableFunc(whole.Segments, func(a, b Segment) int { return cmp.Compare(a.Start, b.Start) })
	whole.Text = strings.Join(texts, "\n")
	if twoChannels {
		whole.Text = joined(whole.Segments, "\n")
	}
	if onlyStock(whole.Text) {
		dropped += len(whole.Segments)
		whole.Text, whole.Segments, missing = "", nil, 0
	}
	whole.coverage = 1
	if sound > 0 {
		whole.coverage = max(0, 1-missing/sound)
	}
	return whole, dropped
}

func shifted(segments []Segment, by float64) []Segment {
	out := slices.Clone(segments)
	for i := range out {
		out[i].Start, out[i].End = out[i].Start+by, out[i].End+by
	}
	return out
}

func joined(segments []Segment, separator string) string {
	var texts []string
	for _, s := range segments {
		if s.Text != "" {
			texts = append(texts, s.Text)
		}
	}
	return strings.Join(texts, separator)
}

// sound returns where a chunk is not silent.
func (c Chunk) sound() []Interval {
	if c.Sound == nil {
		return []Interval{{c.Start, max(c.Start, c.End)}}
	}
	return c.Sound
}

func length(intervals []Interval) (seconds float64) {
	for _, i := range intervals {
		seconds += i.End - i.Start
	}
	return seconds
}

// estimate returns the sentences of a text without times as segments: each takes the share of the sound that it has of the characters.
func estimate(text string, chunk Chunk) []Segment {
	sentences := sentencesOf(text)
	total := 0
	for _, s := range sentences {
		total += utf8.RuneCountInString(s)
	}
	sound := chunk.sound()
	seconds := length(sound)
	segments, said := make([]Segment, len(sentences)), 0
	for i, s := range sentences {
		start := at(sound, seconds*float64(said)/float64(total), true)
		said += utf8.RuneCountInString(s)
		segments[i] = Segment{Start: start, End: at(sound, seconds*float64(said)/float64(total), false), Text: s}
	}
	return segments
}

// at returns the time in a recording after that many seconds of sound. Between two sounds it is the start of the second one if
// starting, else the end of the first one.
func at(sound []Interval, seconds float64, starting bool) float64 {
	for i, s := range sound {
		d := s.End - s.Start
		if last := i == len(sound)-1; last || seconds < d || !starting && seconds <= d {
			return min(s.Start+seconds, s.End)
		}
		seconds -= d
	}
	return 0
}

func sentencesOf(text string) []string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		from := 0
		runes := []rune(line)
		for i, r := range runes {
			wide := strings.ContainsRune("。！？", r)
			end := wide || strings.ContainsRune(".!?…।؟", r) && i+1 < len(runes) && unicode.IsSpace(runes[i+1])
			if end || i == len(runes)-1 {
				if s := strings.TrimSpace(string(runes[from : i+1])); s != "" {
					out = append(out, s)
				}
				from = i + 1
			}
		}
	}
	return out
}

// withoutInvented returns the segments that somebody said, and for how many seconds of sound the transcript has none.
func withoutInvented(segments []Segment, chunk Chunk) (said []Segment, lost float64) {
	for i := 0; i < len(segments); {
		same := 1
		for i+same < len(segments) && letters(segments[i+same].Text) == letters(segments[i].Text) {
			same++
		}
		run := segments[i : i+same]
		i += same
		if same >= loopSegments {
			for _, s := range run[1:] {
				lost += overlap(s, chunk.sound())
			}
			run = run[:1]
		}
		for _, s := range run {
			if silent(s, chunk) || marker(s.Text) {
				continue
			}
			text, share := withoutLoops(s.Text)
			lost += share * overlap(s, chunk.sound())
			s.Text = text
			said = append(said, s)
		}
	}
	return said, lost
}

// silent reports whether the recording is silent during a segment. A model whose times are outside of the chunk has wrong times.
func silent(s Segment, chunk Chunk) bool {
	if chunk.Sound == nil || s.End <= s.Start || s.End > chunk.End+soundPadding {
		return false
	}
	return overlap(Segment{Start: s.Start - soundPadding, End: s.End + soundPadding}, chunk.Sound) == 0
}

func overlap(s Segment, sound []Interval) (seconds float64) {
	for _, i := range sound {
		seconds += max(0, min(s.End, i.End)-max(s.Start, i.Start))
	}
	return seconds
}

// marker reports whether a text only describes a noise, such as [music].
func marker(text string) bool {
	text = strings.TrimSpace(text)
	const opening, closing = "[(*♪", "])*♪"
	inner := strings.TrimLeft(text, opening)
	return inner != text && strings.IndexAny(inner, closing) == len(strings.TrimRight(inner, closing)) && strings.TrimRight(inner, closing) != inner
}

// withoutLoops returns a text in which no phrase is repeated without end, and the share of the text that was removed.
func withoutLoops(text string) (string, float64) {
	words := strings.Fields(text)
	bare := make([]string, len(words))
	for i, w := range words {
		bare[i] = letters(w)
	}
	var kept []string
	for i := 0; i < len(words); {
		size, times := loopAt(bare, i)
		kept = append(kept, words[i:i+size]...)
		i += size * times
	}
	if len(kept) == len(words) {
		return text, 0
	}
	return strings.Join(kept, " "), 1 - float64(len(kept))/float64(len(words))
}

// loopAt returns the length in words of the phrase at i that is repeated without end, and how often it is there. Without one it is one
// word, once.
func loopAt(words []string, i int) (size, times int) {
	for size := 1; size <= longestLoop && i+2*size <= len(words); size++ {
		times := 1
		for next := i + size*times; next+size <= len(words) && slices.Equal(words[i:i+size], words[next:next+size]); next = i + size*times {
			times++
		}
		if size == 1 && times >= loopWord || size > 1 && times >= loopPhrase {
			return size, times
		}
	}
	return 1, 1
}

// letters returns the letters and digits of a text in lower case.
func letters(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, text)
}

// onlyStock reports whether a transcript has nothing but the phrases with which models answer to music and noise, which are those of
// the subtitles that they were trained with.
func onlyStock(text string) bool {
	sentences := sentencesOf(text)
	if len(sentences) == 0 {
		return false
	}
	for _, s := range sentences {
		if !slices.Contains(stock(), letters(s)) && letters(s) != "" {
			return false
		}
	}
	return true
}

func stock() []string {
	return []string{
		"you", "thanksforwatching", "thankyouforwatching", "thankyouverymuchforwatching", "thankyousomuchforwatching", "pleasesubscribe",
		"pleasesubscribetomychannel", "likeandsubscribe", "seeyouinthenextvideo", "subtitlesbytheamaraorgcommunity", "transcribedbyotterai",
		"untertitelderamaraorgcommunity", "untertitelvonstephaniegeiges", "untertitelungdeszdf2020", "vielendankfürszuschauen",
		"soustitresréalisésparlacommunautédamaraorg", "mercidavoirregardécettevidéo", "subtítulosrealizadosporlacomunidaddeamaraorg",
		"graciasporverelvideo", "legendasporrtp", "sottotitoliesrevisioneacuradiqtss", "ご視聴ありがとうございました", "請不吝點贊訂閱轉發打賞支持明鏡與點點欄目", "시청해주셔서감사합니다",
		"продолжениеследует", "субтитрысделалdimatorzok",
	}
}
