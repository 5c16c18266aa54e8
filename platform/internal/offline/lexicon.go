package offline

import (
	"regexp"
	"strings"
)

// lexicon is the analyst's words and patterns of sales calls. Recognized speech has no case and no punctuation, and contains
// errors ("led us" for "let us"). So the patterns ignore case, do not require punctuation, and include common errors.
type lexicon struct {
	word    *regexp.Regexp
	end     *regexp.Regexp // the end of a sentence
	speaker *regexp.Regexp // a time or a speaker's name at the start of a line
	clause  *regexp.Regexp // the start of a clause
	trail   *regexp.Regexp // trailing words that belong to the next clause
	filler  *regexp.Regexp // filler words at the start of a clause
	negated *regexp.Regexp
	when    *regexp.Regexp
	proper  *regexp.Regexp // words to capitalize

	commitments []commitment
	objection   *regexp.Regexp
	intents     []intent
	phrases     []phrase
	words       map[string]float64 // for govader: -4 to 4
	terms       map[string]bool    // typical topics of sales calls
	same        map[string]string  // synonyms and their topic
	stop        map[string]bool    // stop words, in the singular
}

type commitment struct {
	*regexp.Regexp
	weight int
}

type phrase struct {
	*regexp.Regexp
	score float64 // added to a sentence's, which is from -1 to 1
}

type intent struct {
	category string
	patterns []evidence
}

type evidence struct {
	*regexp.Regexp
	weight int
}

const (
	verbs = `(?:send|share|email|mail|forward|schedule|book|arrange|set up|plan|call|phone|ring|follow up|get back|prepare|draft|review|` +
		`sign|check|confirm|discuss|talk to|speak to|meet|update|pay|transfer|deliver|order|invite|connect|introduce|come back|bring|add|ask|find out|start)`
	promise = `(?:i will|i'll|we will|we'll|i am going to|i'm going to|we are going to|we're going to|i can|we can)`
	request = `(?:please|could you|can you|would you|will you|you should|you need to|i need you to|make sure to|remember to)`
	plan    = `(?:(?:let|led|lead) us|let's|lets|we should|we need to|we have to|i need to|i have to|i should)`
	bare    = `(?:call me|send me|send us|email me|get back to me|get back to us)`
	want    = `(?:we need|i need|we want|i want|i would like|we would like|i'd like|we'd like|are there|do you|what is|how much)`
	soon    = `(?:today|tonight|tomorrow|monday|tuesday|wednesday|thursday|friday|saturday|sunday|next (?:week|month)|this (?:week|afternoon|evening)|` +
		`(?:in|within) (?:an?|one|two|three|\d+) (?:minutes?|hours?|days?|weeks?)|by (?:the )?end of)`
)

func newLexicon() lexicon {
	return lexicon{
		word:    regexp.MustCompile(`[\p{L}\p{N}]+(?:'\p{L}+)?`),
		end:     regexp.MustCompile(`[.?!]+(?:\s+|$)`),
		speaker: regexp.MustCompile(`(?i)^\s*(?:\[[^\]]{0,40}\]\s*)?(?:(?:speaker|agent|client|customer|caller|lead)[ _]?\w{0,3}:\s*)?`),
		clause:  pattern(`(?:(?:and |so |but )?then )?(?:` + promise + `|` + request + `|` + plan + `|` + bare + `|` + want + `)`),
		trail:   regexp.MustCompile(`(?i)(?:[\s,;]+(?:and|so|then|but|or|if|that))*[\s,;]*$`),
		filler:  regexp.MustCompile(`(?i)^(?:(?:yes|yeah|no|ok|okay|well|so|and|then|but|sure|right|alright|great|perfect|hello|hi|thanks|good morning|of course)\b[\s,]*)+`),
		negated: pattern(`(?:not|never|cannot|\w+n't)`),
		when:    pattern(soon),
		proper:  pattern(`i|i'(?:ll|m|d|ve)|(?:mon|tues|wednes|thurs|fri|satur|sun)day`),

		commitments: []commitment{
			{regexp.MustCompile(`(?i)^` + promise + `\s+(?:\w+\s+){0,2}` + verbs + `\b.*\w`), 3},
			{regexp.MustCompile(`(?i)^` + request + `\s+(?:\w+\s+){0,2}` + verbs + `\b.*\w`), 2},
			{regexp.MustCompile(`(?i)^` + bare + `\b`), 2},
			{regexp.MustCompile(`(?i)^` + plan + `\s+(?:\w+\s+){0,2}` + verbs + `\b.*\w`), 2},
		},
		objection: pattern(`(?:too|two) (?:high|much|expensive|costly|slow|complicated|long|late|risky)|(?:very |so |bit )expensive|overpriced|over (?:our|my|the) budget|` +
			`(?:no|not in (?:our|my|the)|don't have (?:the|a|any)) budget|(?:can't|cannot|can not) afford|already (?:have|use|using|work with)|` +
			`not (?:the right time|a good time|convinced|sure|happy|interested)|(?:need|have) to think|think about it|(?:worried|concerned) about|` +
			`(?:talk to|ask|check with) (?:my|our) (?:boss|manager|wife|husband|parents|family|partner|team)|cheaper|better (?:offer|price|deal)|don't (?:need|trust|see)`),
		intents: intents(),
		phrases: []phrase{
			{pattern(`(?:too|two) (?:high|much|expensive|costly|slow|complicated)|over (?:our|my|the) budget`), -0.5},
			{pattern(`(?:can't|cannot|can not) afford|not (?:happy|convinced|interested)|waste of time|stop calling`), -0.6},
			{pattern(`want to (?:start|buy|go ahead|proceed|order|sign|join)|(?:move|go) (?:forward|ahead)|good fit|looking forward`), 0.4},
		},
		words: map[string]float64{
			"expensive": -1.6, "overpriced": -2.4, "pricey": -1.4, "cheaper": -0.6, "delay": -1.3, "affordable": 1.7, "discount": 0.9, "reliable": 1.8,
		},
		terms: set(`pricing proposal contract discount demo budget offer product invoice payment quote renewal subscription license integration
			support training meeting feature delivery deadline onboarding trial deal order admission fee loan insurance property service plan`),
		same: map[string]string{"price": "pricing", "prices": "pricing", "cost": "pricing", "costs": "pricing", "demonstration": "demo"},
		stop: set(stopWords),
	}
}

func intents() []intent {
	return []intent{
		{"wrong_number", []evidence{{pattern(`wrong (?:number|person)`), 6}, {pattern(`no one (?:here )?by that name|(?:don't|do not) know (?:him|her|that person)`), 3}}},
		{"no_answer", []evidence{{pattern(`leave (?:a|your) message|after the (?:tone|beep)|voice ?mail|not available (?:to take|right now)`), 6}}},
		{"not_interested", []evidence{
			{pattern(`(?:not|aren't|isn't|no longer|never) interested|no interest`), 4},
			{pattern(`(?:stop|don't|do not) (?:call|calling|contact|contacting)|remove (?:me|my number)|take me off`), 4},
			{pattern(`(?:don't|do not) (?:need|want) (?:it|this|that|any|your)|no thank you|no thanks|went with (?:another|someone)`), 2},
		}},
		{"payment_pending", []evidence{
			{pattern(`payment link|(?:i|we)(?:'ll| will| can)? (?:make the payment|pay (?:today|tomorrow|now|online|by|on|the|it|this|next))`), 5},
			{pattern(`(?:send|share) (?:me |us |you )?(?:the |an )?(?:invoice|bank details|account details)|payment (?:is )?pending|pay the (?:fee|rest|balance|deposit)`), 4},
		}},
		{"callback_requested", []evidence{
			{pattern(`call (?:me|us) (?:back|later|again|tomorrow|tonight|next|on|at|in|after)|give me a call`), 4},
			{pattern(`(?:busy|driving|in a meeting)(?: right)?(?: now)?|not a good time|bad time|talk later`), 3},
		}},
		{"future_planning", []evidence{
			{pattern(`next (?:year|quarter)|later this year|(?:in|after) (?:a few|two|three|four|five|six|\d+) months`), 3},
			{pattern(`not (?:right now|at the moment|yet|this year)|in the future|some day|planning for`), 2},
		}},
		{"interested", []evidence{
			{pattern(`want to (?:start|buy|go ahead|proceed|order|sign|join|try|enrol|enroll|see)`), 3},
			{pattern(`(?:i am|i'm|we are|we're|very|really|quite) interested|sounds (?:good|great|perfect)|looking forward`), 3},
			{pattern(`send (?:me |us |over )?(?:the |a |an |your )?(?:contract|proposal|quote|offer|details|brochure)`), 2},
			{pattern(`schedule (?:a|the|another)|(?:is|works|work) (?:good|fine|great) for (?:me|us)|that works`), 1},
			{pattern(`(?:love|like) (?:the|your|it)|product is (?:great|good|perfect)|very happy`), 1},
		}},
	}
}

// pattern matches whole words in any case.
func pattern(words string) *regexp.Regexp { return regexp.MustCompile(`(?i)\b(?:` + words + `)\b`) }

func set(words string) map[string]bool {
	all := map[string]bool{}
	for _, word := range strings.Fields(words) {
		all[word] = true
	}
	return all
}

const stopWords = `about above after again against also always another anybody anyone anything around away back because been before behind being below between
	both bring call came cannot come could course daily didn does doing done down during each early either else even ever every everybody everyone everything
	fine find first forward found friday from gave getting give given going gone good great hand happy have having hear hello help here hour however into
	just keep kind know last late later least less letter like likely little long look looking made make making many maybe mean meet might minute monday
	month more morning most much must need never next nice nothing only okay other over part perfect people person please possible pretty probably quite rather
	really right said same saturday schedule seem send sent shall share should show since small some somebody someone something soon sound start still such sunday
	sure take taken taking talk tell than thank that their them then there these they thing think this those though through thursday time today together tomorrow
	tonight tuesday under until upon very wait want wednesday week well went were what when where whether which while will with without wonderful word work would
	yeah year yesterday your yours able actually afternoon almost already although better best high higher hope idea important interested interest issue love lower
	moment number offering often once percent question ready receive remember running several side simply something sometime speak thought three try used using want
	welcome whole whose five four seven eight nine`
