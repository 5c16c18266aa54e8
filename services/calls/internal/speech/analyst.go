package speech

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/sashabaranov/go-openai"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/libs/text"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

const (
	chatTimeout   = 2 * time.Minute
	maxTranscript = 200_000 // characters that are sent to a model, about ten hours of speech
)

// Analyst implements call.Analyst.
type Analyst struct {
	*endpoint
	prompts map[string]prompt
}

// NewAnalyst returns an analyst that uses that provider.
func NewAnalyst(p Provider, clk clock.Clock, tel telemetry.Set) (*Analyst, error) {
	prompts, err := loadPrompts()
	if err != nil {
		return nil, err
	}
	return &Analyst{newEndpoint(p, clk, tel), prompts}, nil
}

// Send asks for the insights of a transcript. It refuses to run inside a transaction.
func (a *Analyst) Send(ctx context.Context, q call.Question, key string) (call.Answer, error) {
	return a.exchange(ctx, chatTimeout, key, 0, func(ctx context.Context) error {
		_, err := a.client.CreateChatCompletion(ctx, a.request(q))
		return err
	})
}

func (a *Analyst) promptOf(q call.Question) prompt {
	if p, ok := a.prompts[q.CallType]; ok {
		return p
	}
	return a.prompts["default"]
}

func (a *Analyst) request(q call.Question) openai.ChatCompletionRequest {
	p := a.promptOf(q)
	instructions := p.instructions
	if q.Problem != "" {
		// It is in the instructions, because the message with the transcript must be the last.
		instructions += "\nAn earlier answer was refused: it had no valid JSON of the schema. Answer with nothing but that."
	}
	return openai.ChatCompletionRequest{
		Model: a.model,
		Messages: []openai.ChatCompletionMessage{
			{Role: openai.ChatMessageRoleSystem, Content: instructions},
			{Role: openai.ChatMessageRoleUser, Content: "The call took place at " + q.At.Format(time.RFC3339) + ".\n<transcript>\n" + fenced(q.Transcript) + "\n</transcript>"},
		},
		ResponseFormat: &openai.ChatCompletionResponseFormat{
			Type:       openai.ChatCompletionResponseFormatTypeJSONSchema,
			JSONSchema: &openai.ChatCompletionResponseFormatJSONSchema{Name: "call_insights", Schema: p.raw, Strict: true},
		},
	}
}

// fenced returns the part of a transcript that is sent. It cannot contain the tags that delimit it, however they are spelled.
func fenced(transcript string) string {
	return regexp.MustCompile(`(?i)<(\s*/?\s*transcript)`).ReplaceAllString(text.First(transcript, maxTranscript), "($1")
}

// Read returns the insights in a response.
func (a *Analyst) Read(answer []byte, q call.Question) (call.Insights, string, error) {
	var completion openai.ChatCompletionResponse
	if err := json.Unmarshal(answer, &completion); err != nil {
		return call.Insights{}, "", improper(err)
	}
	content, err := contentOf(completion)
	if err != nil {
		return call.Insights{}, "", err
	}
	in, err := read(content, a.promptOf(q).schema)
	return in, cleanModel(completion.Model, a.model), err
}

func contentOf(completion openai.ChatCompletionResponse) (string, error) {
	if len(completion.Choices) == 0 {
		return "", improper(errors.New("no choices"))
	}
	choice := completion.Choices[0]
	if choice.Message.Refusal != "" {
		return "", fault.Wrap(errors.New("refusal"), fault.Conflict, call.CodeInvalid, "The language model refused to analyse this call")
	}
	if choice.FinishReason == openai.FinishReasonContentFilter {
		return "", fault.Wrap(errors.New("content filter"), fault.Conflict, call.CodeInvalid, "The AI provider's content filter stopped the analysis of this call")
	}
	return choice.Message.Content, nil
}

// answer is a response that fits the schema.
type answer struct {
	Title            *string         `json:"title"`
	Summary          *string         `json:"summary"`
	ActionItems      []string        `json:"action_items"`
	Sentiment        *string         `json:"sentiment"`
	KeyTopics        []string        `json:"key_topics"`
	NextStep         *string         `json:"next_step"`
	IntentCategory   *string         `json:"intent_category"`
	IntentConfidence *float64        `json:"intent_confidence"`
	InterestLevel    *string         `json:"interest_level"`
	Objections       []string        `json:"objections"`
	CallbackTime     *string         `json:"callback_time"`
	Language         *string         `json:"language"`
	Evidence         []call.Evidence `json:"evidence"`
	Insights         map[string]any  `json:"insights"`
}

// read returns what of a response can be used. It fails with insights_invalid if that is nothing. Its errors quote nothing.
func read(content string, s schema) (call.Insights, error) {
	object, ok := objectIn(content)
	if !ok {
		return call.Insights{}, unusable("the answer is not JSON")
	}
	var f fitter
	fitted, err := json.Marshal(f.object(s, object))
	if err != nil {
		return call.Insights{}, fmt.Errorf("encode what fits: %w", err)
	}
	var got answer
	if err := json.Unmarshal(fitted, &got); err != nil {
		return call.Insights{}, fmt.Errorf("decode what fits: %w", err)
	}
	if got.Summary == nil && got.Title == nil && len(got.ActionItems)+len(got.KeyTopics) == 0 {
		return call.Insights{}, unusable("the answer has none of the properties of the schema")
	}
	in := got.insights()
	in.Dropped = f.dropped
	return in, nil
}

func unusable(why string) error {
	return fault.Wrap(errors.New(why), fault.Unavailable, call.CodeInvalid, "The language model's answer does not have the requested form")
}

// objectIn returns the JSON object in a text. Models put it between other text, such as the fences of Markdown.
func objectIn(content string) (object map[string]any, ok bool) {
	if json.Unmarshal([]byte(content), &object) == nil && object != nil {
		return object, true
	}
	from, to := strings.Index(content, "{"), strings.LastIndex(content, "}")
	if from < 0 || to < from {
		return nil, false
	}
	object = nil
	return object, json.Unmarshal([]byte(content[from:to+1]), &object) == nil && object != nil
}

func (a answer) insights() call.Insights {
	in := call.Insights{
		Title: a.Title, Summary: a.Summary, ActionItems: a.ActionItems, Sentiment: a.Sentiment, KeyTopics: a.KeyTopics, NextStep: a.NextStep,
		IntentCategory: a.IntentCategory, IntentConfidence: a.IntentConfidence, InterestLevel: a.InterestLevel, Objections: a.Objections,
		Fields: a.Insights, Evidence: a.Evidence,
	}
	if a.CallbackTime != nil {
		// A model that does not know the time writes things like "next week".
		if at, err := time.Parse(time.RFC3339, *a.CallbackTime); err == nil && at.UTC().Year() >= 1 && at.UTC().Year() <= 9999 {
			in.CallbackTime = new(at.UTC())
		}
	}
	if a.Language != nil {
		in.Language = cleanLanguage(*a.Language)
	}
	return in
}
