package speech

import (
	"regexp"
	"strings"
	"time"

	"github.com/sashabaranov/go-openai"
)

// capability is what a model can do, what it costs and when it ends. A model that is not in the table gets the portable minimum: a file
// and a model in, a text out.
type capability struct {
	format     openai.AudioResponseFormat // that is requested; empty requests none
	timestamps bool                       // of segments, on request
	diarizes   bool
	maxBytes   int64
	maxSeconds float64

	perMinute float64 // USD of audio
	perInput  float64 // USD of a million tokens
	perOutput float64
	priced    bool
	ends      time.Time // zero if no end is announced
}

// The file limit of OpenAI is 25 MB, including the rest of the request.
const (
	maxFileBytes = 24 << 20
	// maxFileSeconds is the limit of OpenAI's newer models (1500 s), with a margin; others are assumed to have none lower.
	maxFileSeconds = 1400
)

// capabilities are from https://developers.openai.com/api/docs/models, its pricing and its deprecations, as of November 2026.
func capabilities() map[string]capability {
	audio := func(format openai.AudioResponseFormat, perMinute float64, ends time.Time) capability {
		return capability{format: format, maxBytes: maxFileBytes, maxSeconds: maxFileSeconds, perMinute: perMinute, priced: true, ends: ends}
	}
	chat := func(perInput, perOutput float64) capability {
		return capability{perInput: perInput, perOutput: perOutput, priced: true}
	}
	ended := time.Date(2027, time.February, 26, 0, 0, 0, 0, time.UTC)
	whisper := audio(openai.AudioResponseFormatVerboseJSON, 0.006, ended)
	whisper.timestamps, whisper.maxSeconds = true, 60*60
	diarize := audio("diarized_json", 0.006, ended)
	diarize.diarizes = true
	mini := chat(0.15, 0.60)
	mini.ends = time.Date(2027, time.January, 14, 0, 0, 0, 0, time.UTC)
	offline := whisper
	offline.perMinute, offline.ends = 0, time.Time{}
	return map[string]capability{
		"gpt-transcribe":            audio(openai.AudioResponseFormatJSON, 0.0045, time.Time{}),
		"whisper-1":                 whisper,
		"gpt-4o-transcribe":         audio(openai.AudioResponseFormatJSON, 0.006, ended),
		"gpt-4o-mini-transcribe":    audio(openai.AudioResponseFormatJSON, 0.003, ended),
		"gpt-4o-transcribe-diarize": diarize,
		"offline-pocketsphinx":      offline,

		"gpt-5.4-mini":       chat(0.75, 4.50),
		"gpt-5.4-nano":       chat(0.20, 1.25),
		"gpt-5-mini":         chat(0.25, 2),
		"gpt-5-nano":         chat(0.05, 0.40),
		"gpt-5":              chat(1.25, 10),
		"gpt-4.1":            chat(2, 8),
		"gpt-4.1-mini":       chat(0.40, 1.60),
		"gpt-4.1-nano":       chat(0.10, 0.40),
		"gpt-4o":             chat(2.50, 10),
		"gpt-4o-mini":        mini,
		"offline-extractive": {priced: true},
	}
}

// capabilityOf returns what is known about a model. A snapshot, such as gpt-4o-mini-2024-07-18, is like its model.
func capabilityOf(model string) capability {
	known := capabilities()
	c, ok := known[model]
	if !ok {
		c, ok = known[regexp.MustCompile(`-\d{4}-\d{2}-\d{2}$`).ReplaceAllString(model, "")]
	}
	if !ok {
		return capability{maxBytes: maxFileBytes, maxSeconds: maxFileSeconds}
	}
	return c
}

// cost returns what a request cost in USD, or nil if that is not known.
func (c capability) cost(seconds float64, input, output int64) *float64 {
	if !c.priced {
		return nil
	}
	return new(c.perMinute*seconds/60 + (c.perInput*float64(input)+c.perOutput*float64(output))/1e6)
}

// Limits are the limits of one file that a transcription model takes.
type Limits struct {
	Bytes   int64
	Seconds float64
}

// Limits returns the limits of the provider's model.
func (p Provider) Limits() Limits {
	c := capabilityOf(p.Model)
	return Limits{c.maxBytes, c.maxSeconds}
}

// Ends returns when the provider's model ends, or the zero time if no end is known.
func (p Provider) Ends() time.Time {
	if !p.official() {
		return time.Time{}
	}
	return capabilityOf(p.Model).ends
}

// official reports whether the prices and ends of OpenAI's models apply: other servers use the same names for models of their own.
func (p Provider) official() bool {
	return p.Proxy || p.BaseURL == "" || strings.HasPrefix(p.BaseURL, "https://api.openai.com/")
}
