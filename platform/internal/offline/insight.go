package offline

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jonreiter/govader"
)

// insight is the extracted information of a call. All its texts are quoted from the call or derived from word counts.
type insight struct {
	Title            string   `json:"title"`
	Language         string   `json:"language"`
	Summary          string   `json:"summary"`
	ActionItems      []string `json:"action_items"`
	Sentiment        string   `json:"sentiment"`
	KeyTopics        []string `json:"key_topics"`
	NextStep         *string  `json:"next_step"`
	IntentCategory   string   `json:"intent_category"`
	IntentConfidence float64  `json:"intent_confidence"` // 0 to 1, from how clear the evidence is
	InterestLevel    *string  `json:"interest_level"`
	Objections       []string `json:"objections"`
	CallbackTime     *string  `json:"callback_time"` // always null: the date of the call is not known, so "Friday" cannot be resolved
	Evidence         []quote  `json:"evidence"`
}

// quote is the words of the transcript that a claim was made from.
type quote struct {
	Kind  string `json:"kind"` // action_item, objection, next_step
	Claim string `json:"claim"`
	Quote string `json:"quote"`
}

// Limits of an insight, for reading on a phone.
const (
	maxSummary    = 3
	maxTopics     = 5
	maxItems      = 8
	maxItemLength = 240 // characters
	maxWords      = 40  // of a sentence; longer ones are split into clauses
)

// analyst extracts insights from transcripts. It is safe for concurrent use.
type analyst struct {
	lexicon
	valence *govader.SentimentIntensityAnalyzer
}

func newAnalyst() *analyst {
	a := &analyst{lexicon: newLexicon(), valence: govader.NewSentimentIntensityAnalyzer()}
	for word, valence := range a.words {
		a.valence.Lexicon[word] = valence
	}
	return a
}

// sentence is a sentence, or a line if there is no punctuation. Its clauses begin where the speaker starts to promise, request or
// want something, because recognized speech has no other separators.
type sentence struct {
	text    string
	words   []string
	clauses []string
}

func (a *analyst) analyse(transcript string) insight {
	sentences := a.sentences(transcript)
	evidence := []quote{}
	prove := func(kind, claim, clause string) { evidence = append(evidence, quote{kind, claim, clause}) }
	actions, next := a.actions(sentences, prove)
	topics := a.topics(sentences)
	i := insight{
		Title:       title(topics),
		Language:    "en",
		Summary:     a.summary(sentences),
		ActionItems: actions,
		Sentiment:   a.sentiment(sentences),
		KeyTopics:   topics,
		NextStep:    next,
		Objections:  a.objectionsIn(sentences, prove),
	}
	i.Evidence = evidence
	i.IntentCategory, i.IntentConfidence, i.InterestLevel = a.intent(sentences)
	return i
}

func (a *analyst) sentences(transcript string) []sentence {
	text := strings.NewReplacer("’", "'", "\r", "").Replace(strings.ToValidUTF8(transcript, ""))
	var all []sentence
	for line := range strings.Lines(text) {
		line = a.speaker.ReplaceAllString(line, "")
		for _, part := range a.end.Split(line, -1) {
			part = strings.Join(strings.Fields(part), " ")
			s := a.sentence(part)
			if len(s.words) <= maxWords {
				all = append(all, s)
				continue
			}
			for _, clause := range s.clauses {
				all = append(all, a.sentence(clause))
			}
		}
	}
	return slices.DeleteFunc(all, func(s sentence) bool { return len(s.words) == 0 })
}

func (a *analyst) sentence(text string) sentence {
	return sentence{text: text, words: a.word.FindAllString(strings.ToLower(text), -1), clauses: a.clausesOf(text)}
}

func (a *analyst) clausesOf(text string) []string {
	var clauses []string
	from := 0
	add := func(to int) {
		if clause := a.filler.ReplaceAllString(a.trail.ReplaceAllString(text[from:to], ""), ""); clause != "" {
			clauses = append(clauses, clause)
		}
		from = to
	}
	for _, at := range a.clause.FindAllStringIndex(text, -1) {
		add(at[0])
	}
	add(len(text))
	return clauses
}

// proof is called with each claim that is made from a clause.
type proof func(kind, claim, clause string)

// actions returns the promises and requests in order, and the one with the highest weight.
func (a *analyst) actions(sentences []sentence, prove proof) (all []string, next *string) {
	all = []string{}
	best, from := 0, ""
	for _, s := range sentences {
		for _, clause := range s.clauses {
			weight := a.commitment(clause)
			item := a.tidy(clause)
			if weight == 0 || len(all) == maxItems || slices.Contains(all, item) {
				continue
			}
			all = append(all, item)
			prove("action_item", item, clause)
			if weight > best {
				best, next, from = weight, &item, clause
			}
		}
	}
	if next != nil {
		prove("next_step", *next, from)
	}
	return all, next
}

// commitment returns the weight of the commitment in a clause; 0 means no commitment.
func (a *analyst) commitment(clause string) int {
	if a.negated.MatchString(clause) {
		return 0
	}
	weight := 0
	for _, c := range a.commitments {
		if c.MatchString(clause) {
			weight = max(weight, c.weight)
		}
	}
	if weight > 0 && a.when.MatchString(clause) {
		weight++
	}
	return weight
}

func (a *analyst) objectionsIn(sentences []sentence, prove proof) []string {
	all := []string{}
	for _, s := range sentences {
		for _, clause := range s.clauses {
			if item := a.tidy(clause); a.objection.MatchString(clause) && len(all) < maxItems && !slices.Contains(all, item) {
				all = append(all, item)
				prove("objection", item, clause)
			}
		}
	}
	return all
}

// sentiment returns the mean sentiment of the sentences that are not neutral, so that small talk does not dilute it.
func (a *analyst) sentiment(sentences []sentence) string {
	const threshold = 0.15
	sum, count := 0.0, 0
	for _, s := range sentences {
		if score := a.score(s); score != 0 {
			sum, count = sum+score, count+1
		}
	}
	switch mean := sum / float64(max(count, 1)); {
	case mean > threshold:
		return "positive"
	case mean < -threshold:
		return "negative"
	}
	return "neutral"
}

// score returns the sentiment of a sentence, -1 to 1: that of the lexicon plus that of sales phrases.
func (a *analyst) score(s sentence) float64 {
	score := a.valence.PolarityScores(s.text).Compound
	for _, p := range a.phrases {
		if p.MatchString(s.text) {
			score += p.score
		}
	}
	return min(max(score, -1), 1)
}

// topics returns the most frequent topics. A sales term counts one extra, and a frequent pair of words replaces its parts.
func (a *analyst) topics(sentences []sentence) []string {
	counts, order := map[string]int{}, []string{}
	count := func(topic string, n int) {
		if counts[topic] == 0 {
			order = append(order, topic)
		}
		counts[topic] += n
	}
	for _, s := range sentences {
		previous := ""
		for _, word := range s.words {
			topic := a.topic(word)
			if topic != "" {
				count(topic, 1)
			}
			if previous != "" && topic != "" && previous != topic {
				count(previous+" "+topic, 1)
			}
			previous = topic
		}
	}
	weight := func(topic string) int {
		if first, second, pair := strings.Cut(topic, " "); pair {
			if counts[topic] > 1 {
				return counts[topic] + min(counts[first], counts[second])
			}
			return 0
		}
		if a.terms[topic] {
			return counts[topic] + 1
		}
		return counts[topic]
	}
	slices.SortStableFunc(order, func(x, y string) int { return weight(y) - weight(x) })
	top := []string{}
	for _, topic := range order {
		covered := slices.ContainsFunc(top, func(t string) bool { return strings.Contains(t, topic) })
		if weight(topic) > 1 && !covered && len(top) < maxTopics {
			top = append(top, topic)
		}
	}
	return top
}

// topic returns the normalized form of a word, such as its singular, or "" for a stop word.
func (a *analyst) topic(word string) string {
	if same, ok := a.same[word]; ok {
		return same
	}
	if singular := strings.TrimSuffix(word, "s"); len(singular) > 3 && !strings.HasSuffix(singular, "s") {
		word = singular
	}
	if a.stop[word] || utf8.RuneCountInString(word) < 4 || strings.Contains(word, "'") || !unicode.IsLetter(rune(word[0])) {
		return ""
	}
	return word
}

func title(topics []string) string {
	switch n := min(len(topics), 3); n {
	case 0:
		return "Sales call"
	case 1:
		return "Call about " + topics[0]
	default:
		return "Call about " + strings.Join(topics[:n-1], ", ") + " and " + topics[n-1]
	}
}

// summary returns the most informative third of the sentences, at most three, in their original order.
func (a *analyst) summary(sentences []sentence) string {
	if len(sentences) == 0 {
		return "No speech was recognized."
	}
	frequency := map[string]int{}
	for _, s := range sentences {
		for _, word := range s.words {
			if topic := a.topic(word); topic != "" {
				frequency[topic]++
			}
		}
	}
	scores := make([]float64, len(sentences))
	byScore := make([]int, len(sentences))
	for i, s := range sentences {
		scores[i], byScore[i] = a.relevance(s, frequency), i
	}
	slices.SortStableFunc(byScore, func(x, y int) int { return cmp.Compare(scores[y], scores[x]) })
	chosen := byScore[:min(max(len(sentences)/3, 1), maxSummary)]
	slices.Sort(chosen)
	texts := make([]string, len(chosen))
	for i, n := range chosen {
		texts[i] = a.clean(sentences[n])
	}
	return strings.Join(texts, " ")
}

// clean returns a sentence without filler words, and with a full stop after each clause.
func (a *analyst) clean(s sentence) string {
	clauses := make([]string, len(s.clauses))
	for i, clause := range s.clauses {
		clauses[i] = a.tidy(clause) + "."
	}
	if len(clauses) == 0 {
		return a.tidy(s.text) + "."
	}
	return strings.Join(clauses, " ")
}

// relevance scores a sentence by its frequent words relative to its length, its commitments, objections and sentiment.
func (a *analyst) relevance(s sentence, frequency map[string]int) float64 {
	total := 0
	for _, word := range s.words {
		total += frequency[a.topic(word)]
	}
	score := float64(total)/math.Sqrt(float64(len(s.words)+4)) + math.Abs(a.score(s))/2
	for _, clause := range s.clauses {
		score += float64(a.commitment(clause)) / 4
		if a.objection.MatchString(clause) {
			score++
		}
	}
	return score
}

// intent returns the category with the highest total weight of matching patterns, and a confidence from how clear the result is.
func (a *analyst) intent(sentences []sentence) (category string, confidence float64, interest *string) {
	words := 0
	var text strings.Builder
	for _, s := range sentences {
		words += len(s.words)
		text.WriteString(s.text + "\n")
	}
	if words < 4 {
		return "no_answer", 0.8, nil
	}
	best, total := 0, 0
	category = "undecided"
	for _, candidate := range a.intents {
		score := 0
		for _, p := range candidate.patterns {
			if p.MatchString(text.String()) {
				score += p.weight
			}
		}
		total += score
		if score > best {
			best, category = score, candidate.category
		}
	}
	if best == 0 {
		return "undecided", 0.3, nil
	}
	clear := 0.4 + 0.1*float64(min(best, 5))
	confidence = math.Round(100*clear*(0.5+0.5*float64(best)/float64(total))) / 100
	return category, confidence, level(category, best)
}

func level(category string, evidence int) *string {
	var l string
	switch category {
	case "payment_pending":
		l = "high"
	case "interested":
		l = "medium"
		if evidence >= 4 {
			l = "high"
		}
	case "callback_requested", "future_planning":
		l = "medium"
	case "not_interested":
		l = "low"
	default:
		return nil
	}
	return &l
}

// tidy formats a clause: it capitalizes the first letter, I and the days of the week, and limits the length.
func (a *analyst) tidy(clause string) string {
	clause = a.proper.ReplaceAllStringFunc(strings.Trim(clause, " ,;:-"), capital)
	text := []rune(capital(clause))
	if len(text) > maxItemLength {
		return strings.TrimSpace(string(text[:maxItemLength-1])) + "…"
	}
	return string(text)
}

func capital(text string) string {
	r, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return text
	}
	return string(unicode.ToUpper(r)) + text[size:]
}
