package offline_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/sashabaranov/go-openai"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/platform/internal/offline"
)

// insightSchema is similar to the schema that calls requests.
const insightSchema = `{"type":"object","additionalProperties":false,
"required":["summary","action_items","sentiment","key_topics","next_step","intent_category","intent_confidence","interest_level","objections","callback_time","title","language"],
"properties":{
	"summary":{"type":"string","minLength":1},
	"action_items":{"type":"array","items":{"type":"string"}},
	"sentiment":{"type":"string","enum":["positive","neutral","negative"]},
	"key_topics":{"type":"array","maxItems":3,"items":{"type":"string"}},
	"next_step":{"type":["string","null"]},
	"intent_category":{"enum":["not_interested","callback_requested","interested","payment_pending","future_planning","wrong_number","undecided","no_answer"]},
	"intent_confidence":{"type":"number","minimum":0,"maximum":1},
	"interest_level":{"anyOf":[{"type":"string","enum":["high","medium","low"]},{"type":"null"}]},
	"objections":{"type":"array","items":{"type":"string"}},
	"callback_time":{"type":["string","null"],"format":"date-time"},
	"title":{"type":"string","maxLength":80},
	"language":{"type":"string"},
	"evidence":{"type":"array"}}}`

type insight struct {
	Title            string   `json:"title"`
	Language         string   `json:"language"`
	Summary          string   `json:"summary"`
	ActionItems      []string `json:"action_items"`
	Sentiment        string   `json:"sentiment"`
	KeyTopics        []string `json:"key_topics"`
	NextStep         *string  `json:"next_step"`
	IntentCategory   string   `json:"intent_category"`
	IntentConfidence float64  `json:"intent_confidence"`
	InterestLevel    *string  `json:"interest_level"`
	Objections       []string `json:"objections"`
	CallbackTime     *string  `json:"callback_time"`
}

// insights sends a request like calls, and validates the response against the schema.
func (f fixture) insights(t *testing.T, transcript string) insight {
	t.Helper()
	content := f.ask(t, "Here is the call.\n<transcript>\n"+transcript+"\n</transcript>", insightSchema)
	requireValid(t, insightSchema, content)
	var got insight
	require.NoError(t, json.Unmarshal([]byte(content), &got))
	return got
}

func (f fixture) ask(t *testing.T, user, schema string) string {
	t.Helper()
	res, err := f.client.CreateChatCompletion(t.Context(), openai.ChatCompletionRequest{
		Model: offline.InsightModel,
		Messages: []openai.ChatCompletionMessage{
			{Role: openai.ChatMessageRoleSystem, Content: "Extract insights. <transcript>not this</transcript>"},
			{Role: openai.ChatMessageRoleUser, Content: user},
		},
		ResponseFormat: &openai.ChatCompletionResponseFormat{
			Type:       openai.ChatCompletionResponseFormatTypeJSONSchema,
			JSONSchema: &openai.ChatCompletionResponseFormatJSONSchema{Name: "insights", Schema: json.RawMessage(schema), Strict: true},
		},
	})
	require.NoError(t, err)
	require.Equal(t, offline.InsightModel, res.Model)
	require.NotEmpty(t, res.ID)
	require.Len(t, res.Choices, 1)
	require.Equal(t, openai.FinishReasonStop, res.Choices[0].FinishReason)
	require.Positive(t, res.Usage.PromptTokens)
	require.Equal(t, res.Usage.PromptTokens+res.Usage.CompletionTokens, res.Usage.TotalTokens)
	return res.Choices[0].Message.Content
}

func requireValid(t *testing.T, schema, content string) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	require.NoError(t, c.AddResource("test.json", doc))
	compiled, err := c.Compile("test.json")
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(content))
	require.NoError(t, err)
	require.NoError(t, compiled.Validate(value))
}

func TestInsights(t *testing.T) {
	t.Parallel()
	f := start(t, offline.Config{})
	for name, c := range map[string]struct {
		transcript string
		want       insight
	}{
		"interested, with an objection": {script(t), insight{
			Title:       "Call about product, pricing and proposal",
			Summary:     "The price is too high for our budget this year. I will send you the proposal by Friday. Please send the contract with the proposal.",
			ActionItems: []string{"I will send you the proposal by Friday", "Please send the contract with the proposal", "We should schedule the product demo for next week"},
			Sentiment:   "positive", KeyTopics: []string{"product", "pricing", "proposal"},
			NextStep:       new("I will send you the proposal by Friday"),
			IntentCategory: "interested", IntentConfidence: 0.9, InterestLevel: new("high"),
			Objections: []string{"The price is too high for our budget this year", "We need a better offer"},
		}},
		"recognized, with mistakes": {"yes the price is two high but send me the contract\nperfect led us schedule the demo on friday and i will call you tomorrow", insight{
			Title:       "Call about pricing, contract and demo",
			Summary:     "Led us schedule the demo on Friday. I will call you tomorrow.",
			ActionItems: []string{"Send me the contract", "Led us schedule the demo on Friday", "I will call you tomorrow"},
			Sentiment:   "neutral", KeyTopics: []string{"pricing", "contract", "demo"},
			NextStep:       new("I will call you tomorrow"),
			IntentCategory: "interested", IntentConfidence: 0.7, InterestLevel: new("medium"),
			Objections: []string{"The price is two high"},
		}},
		"call me back": {"Agent: Is now a bad time?\nClient: I'm driving. Could you call me back tomorrow at five?\nAgent: Sure, I'll call you tomorrow.", insight{
			Title: "Sales call", Summary: "I'll call you tomorrow.",
			ActionItems: []string{"Call me back tomorrow at five", "I'll call you tomorrow"},
			Sentiment:   "neutral", KeyTopics: []string{}, NextStep: new("I'll call you tomorrow"),
			IntentCategory: "callback_requested", IntentConfidence: 0.9, InterestLevel: new("medium"), Objections: []string{},
		}},
		"not interested": {"I am not interested, please stop calling me. This is a waste of time. Your product is terrible.", insight{
			Title: "Call about product", Summary: "I am not interested. Please stop calling me.",
			ActionItems: []string{}, Sentiment: "negative", KeyTopics: []string{"product"},
			IntentCategory: "not_interested", IntentConfidence: 0.9, InterestLevel: new("low"), Objections: []string{"I am not interested"},
		}},
		"too expensive, later": {"[00:01] Speaker 1: It is too expensive. We can't afford it. Maybe next year.\n[00:09] Speaker 2: I will not call you before that.", insight{
			Title: "Sales call", Summary: "It is too expensive.",
			ActionItems: []string{}, Sentiment: "negative", KeyTopics: []string{},
			IntentCategory: "future_planning", IntentConfidence: 0.7, InterestLevel: new("medium"),
			Objections: []string{"It is too expensive", "We can't afford it"},
		}},
		"payment": {"Send me the payment link and I will pay today.", insight{
			Title: "Call about payment", Summary: "Send me the payment link. I will pay today.",
			ActionItems: []string{"Send me the payment link", "I will pay today"}, Sentiment: "neutral", KeyTopics: []string{"payment"},
			NextStep: new("I will pay today"), IntentCategory: "payment_pending", IntentConfidence: 0.9, InterestLevel: new("high"), Objections: []string{},
		}},
		"wrong number": {"Sorry, you have the wrong number.", insight{
			Title: "Sales call", Summary: "Sorry, you have the wrong number.",
			ActionItems: []string{}, Sentiment: "negative", KeyTopics: []string{}, IntentCategory: "wrong_number", IntentConfidence: 0.9, Objections: []string{},
		}},
		"silence": {"", insight{
			Title: "Sales call", Summary: "No speech was recognized.",
			ActionItems: []string{}, Sentiment: "neutral", KeyTopics: []string{}, IntentCategory: "no_answer", IntentConfidence: 0.8, Objections: []string{},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.want.Language = "en"
			require.Empty(t, cmp.Diff(c.want, f.insights(t, c.transcript)))
		})
	}
}

// Every claim has a quote, verbatim: calls drops what it does not find in the transcript.
func TestClaimsAreProvedByQuotes(t *testing.T) {
	t.Parallel()
	f := start(t, offline.Config{})
	schema := `{"type":"object","required":["action_items","next_step","objections","evidence"],"properties":{
		"action_items":{"type":"array","items":{"type":"string"}},"objections":{"type":"array","items":{"type":"string"}},"next_step":{"type":["string","null"]},
		"evidence":{"type":"array","items":{"type":"object","additionalProperties":false,"required":["kind","claim","quote"],
			"properties":{"kind":{"type":"string","enum":["action_item","objection","next_step"]},"claim":{"type":"string"},"quote":{"type":"string"}}}}}}`
	ask := func(transcript string) (got struct {
		Evidence []struct{ Kind, Claim, Quote string } `json:"evidence"`
	}) {
		require.NoError(t, json.Unmarshal([]byte(f.ask(t, "<transcript>\n"+transcript+"\n</transcript>", schema)), &got))
		return got
	}
	got := ask("agent: yes the price is too high but send me the contract\nclient: i will call you on friday")
	require.Equal(t, []struct{ Kind, Claim, Quote string }{
		{"action_item", "Send me the contract", "send me the contract"},
		{"action_item", "I will call you on Friday", "i will call you on friday"},
		{"next_step", "I will call you on Friday", "i will call you on friday"},
		{"objection", "The price is too high", "the price is too high"},
	}, got.Evidence)
	require.Empty(t, ask("good day").Evidence)
}

func TestTheResponseMatchesTheSchema(t *testing.T) {
	t.Parallel()
	f := start(t, offline.Config{})
	for name, c := range map[string]struct{ schema, want string }{
		"only the requested property": {`{"type":"object","properties":{"sentiment":{"type":"string"}},"required":["sentiment"]}`, `{"sentiment":"neutral"}`},
		"unknown properties": {`{"type":"object","properties":{
			"a":{"type":"string"},"b":{"type":"integer","minimum":3},"c":{"type":"boolean"},"d":{"type":"array","items":{"type":"string"},"minItems":1},
			"e":{"enum":["x","y"]},"f":{"type":["number","null"]},"g":{"const":7},"h":{"type":"string","minLength":2},"i":{"type":"object"}}}`,
			`{"a":"","b":3,"c":false,"d":[""],"e":"x","f":null,"g":7,"h":"--","i":{}}`},
		"known names of other types": {`{"type":"object","properties":{"summary":{"type":"array","items":{"type":"string"}},"sentiment":{"enum":["good","bad"]}}}`,
			`{"sentiment":"good","summary":[]}`},
		"nested, by reference": {`{"type":"object","properties":{"call":{"$ref":"#/$defs/call"}},"$defs":{"call":{"type":"object","properties":{"title":{"type":"string","maxLength":5}}}}}`,
			`{"call":{"title":"Sales"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := f.ask(t, "hello", c.schema)
			requireValid(t, c.schema, got)
			require.JSONEq(t, c.want, got)
		})
	}
}

func TestOtherResponseFormats(t *testing.T) {
	t.Parallel()
	f := start(t, offline.Config{})
	request := openai.ChatCompletionRequest{Model: offline.InsightModel, Messages: []openai.ChatCompletionMessage{{
		Role: openai.ChatMessageRoleUser, MultiContent: []openai.ChatMessagePart{{Type: openai.ChatMessagePartTypeText, Text: "Please call the bank today."}},
	}}}
	text, err := f.client.CreateChatCompletion(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, "Please call the bank today.", text.Choices[0].Message.Content)

	request.ResponseFormat = &openai.ChatCompletionResponseFormat{Type: openai.ChatCompletionResponseFormatTypeJSONObject}
	object, err := f.client.CreateChatCompletion(t.Context(), request)
	require.NoError(t, err)
	requireValid(t, insightSchema, object.Choices[0].Message.Content)
}

func TestChatProblems(t *testing.T) {
	t.Parallel()
	f := start(t, offline.Config{})
	ask := func(format string) string {
		return `{"model":"` + offline.InsightModel + `","messages":[{"role":"user","content":"hello"}],"response_format":` + format + `}`
	}
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"not JSON":        {"{", 400, "malformed_json"},
		"other content":   {`{"model":"x","messages":[{"role":"user","content":7}]}`, 400, "malformed_json"},
		"other model":     {`{"model":"gpt-4o"}`, 404, "model_not_found"},
		"stream":          {`{"model":"` + offline.InsightModel + `","stream":true}`, 400, "unsupported_stream"},
		"no user message": {`{"model":"` + offline.InsightModel + `","messages":[{"role":"system","content":"hello"}]}`, 400, "missing_message"},
		"other format":    {ask(`{"type":"grammar"}`), 400, "unsupported_format"},
		"no schema":       {ask(`{"type":"json_schema"}`), 400, "invalid_json_schema"},
		"wrong schema":    {ask(`{"type":"json_schema","json_schema":{"schema":{"type":7}}}`), 400, "invalid_json_schema"},
		"foreign schema":  {ask(`{"type":"json_schema","json_schema":{"schema":{"$ref":"file:///etc/passwd"}}}`), 400, "invalid_json_schema"},
		"endless schema":  {ask(`{"type":"json_schema","json_schema":{"schema":{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}}}`), 400, "unsupported_schema"},
		"circular schema": {ask(`{"type":"json_schema","json_schema":{"schema":{"$ref":"#"}}}`), 400, "unsupported_schema"},
		"impossible":      {ask(`{"type":"json_schema","json_schema":{"schema":{"type":"string","pattern":"^[0-9]+$"}}}`), 400, "unsupported_schema"},
		"too large":       {strings.Repeat(" ", 4<<20+1), 413, "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireProblem(t, f.post(t, "/v1/chat/completions", "application/json", bytes.NewBufferString(c.body)), c.status, c.code)
		})
	}
	require.Equal(t, http.StatusNotFound, f.post(t, "/", "text/plain", nil).StatusCode)
}
