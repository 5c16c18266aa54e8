package openai_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goopenai "github.com/sashabaranov/go-openai"
	"github.com/sashabaranov/go-openai/jsonschema"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/test/fake/openai"
	"github.com/convoflow/convoflow/test/fake/script"
)

func TestEveryFormatOfAudioIsTranscribedAndLogged(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tone.ogg", "tone.wav", "tone.mp3", "tone.flac", "tone.m4a", "tone.webm"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := openai.Start(t)
			response, err := client(fake).CreateTranscription(t.Context(), recording(t, name))
			require.NoError(t, err)
			require.Equal(t, openai.DefaultTranscript().Text(), response.Text)

			request := fake.WaitFor(t, openai.Transcriptions, 1)[0]
			raw, err := os.ReadFile(filepath.Join("testdata", name))
			require.NoError(t, err)
			sum := sha256.Sum256(raw)
			require.Equal(t, openai.Audio{Filename: name, Bytes: len(raw), SHA256: hex.EncodeToString(sum[:])}, request.Audio)
			require.Equal(t, "gpt-4o-transcribe", request.Model)
			require.Greater(t, request.Bytes, len(raw))
			require.WithinDuration(t, clock.System{}.Now(), request.Time, time.Minute)
			require.Equal(t, "Bearer "+openai.Key, request.Header.Get("Authorization"))
		})
	}
}

func TestVerboseTranscriptsHaveSegments(t *testing.T) {
	t.Parallel()
	fake := openai.Start(t)
	german := openai.Transcript{Language: "german", Duration: 3.2, Segments: []openai.Segment{{0, 1.5, "Guten Tag."}, {1.5, 3.2, "Hallo."}}}
	fake.Script(openai.Transcriptions, openai.AnswerTranscript(german))
	request := recording(t, "tone.ogg")
	request.Model, request.Format = goopenai.Whisper1, goopenai.AudioResponseFormatVerboseJSON
	request.TimestampGranularities = []goopenai.TranscriptionTimestampGranularity{goopenai.TranscriptionTimestampGranularitySegment}
	response, err := client(fake).CreateTranscription(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, "Guten Tag. Hallo.", response.Text)
	require.Equal(t, "german", response.Language)
	require.InDelta(t, 3.2, response.Duration, 0)
	require.Len(t, response.Segments, 2)
	require.Equal(t, " Hallo.", response.Segments[1].Text)
	require.InDelta(t, 1.5, response.Segments[1].Start, 0)
}

func TestTranscriptsAsText(t *testing.T) {
	t.Parallel()
	fake := openai.Start(t)
	request := recording(t, "tone.ogg")
	request.Format = goopenai.AudioResponseFormatText
	response, err := client(fake).CreateTranscription(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, openai.DefaultTranscript().Text()+"\n", response.Text)
}

func TestTranscriptionsAreRefusedAsOpenAIDoes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*goopenai.AudioRequest)
		status int
		want   string
	}{
		"verbose from gpt-4o": {func(r *goopenai.AudioRequest) { r.Format = goopenai.AudioResponseFormatVerboseJSON }, 400, "not compatible with model 'gpt-4o-transcribe'"},
		"subtitles":           {func(r *goopenai.AudioRequest) { r.Format = goopenai.AudioResponseFormatSRT }, 400, "srt"},
		"unknown model":       {func(r *goopenai.AudioRequest) { r.Model = "whisper-2" }, 404, "whisper-2"},
		"text as audio":       {func(r *goopenai.AudioRequest) { r.Reader = strings.NewReader("this is not an mp3 at all") }, 400, "Invalid file format"},
		"no bytes":            {func(r *goopenai.AudioRequest) { r.Reader = strings.NewReader("") }, 400, "Invalid file format"},
		"no extension":        {func(r *goopenai.AudioRequest) { r.FilePath = "recording" }, 400, "Invalid file format"},
		"too large":           {func(r *goopenai.AudioRequest) { r.Reader = bytes.NewReader(make([]byte, 26<<20)) }, 413, "26214400"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := openai.Start(t)
			fake.Script(openai.Transcriptions, openai.AnswerTranscript(openai.Transcript{}))
			request := recording(t, "tone.mp3")
			c.change(&request)
			_, err := client(fake).CreateTranscription(t.Context(), request)
			problem := apiError(t, err)
			require.Equal(t, c.status, problem.HTTPStatusCode)
			require.Contains(t, problem.Message, c.want)

			response, err := client(fake).CreateTranscription(t.Context(), recording(t, "tone.mp3"))
			require.NoError(t, err)
			require.Empty(t, response.Text, "the step remained queued for a valid request")
		})
	}
}

func TestKeysAreChecked(t *testing.T) {
	t.Parallel()
	fake := openai.Start(t)
	config := goopenai.DefaultConfig("sk-other")
	config.BaseURL = fake.URL()
	_, err := goopenai.NewClientWithConfig(config).CreateTranscription(t.Context(), recording(t, "tone.mp3"))
	problem := apiError(t, err)
	require.Equal(t, 401, problem.HTTPStatusCode)
	require.Equal(t, "invalid_api_key", problem.Code)

	response, err := http.Get(fake.URL() + "/models")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, 401, response.StatusCode)
	require.Contains(t, string(body), "You didn't provide an API key")
}

func TestModelsAreListed(t *testing.T) {
	t.Parallel()
	list, err := client(openai.Start(t)).ListModels(t.Context())
	require.NoError(t, err)
	var names []string
	for _, m := range list.Models {
		names = append(names, m.ID)
	}
	require.Subset(t, names, []string{"whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-mini"})
}

func TestUnknownPathsHaveAnErrorToo(t *testing.T) {
	t.Parallel()
	_, err := client(openai.Start(t)).CreateEmbeddings(t.Context(), goopenai.EmbeddingRequest{Model: "text-embedding-3-small", Input: "x"})
	require.Contains(t, apiError(t, err).Message, "Invalid URL (POST /v1/embeddings)")
}

const salesSchema = `{"type":"object","additionalProperties":false,
	"required":["summary","action_items","sentiment","intent_confidence","callback_time","stage","budget","extra","evidence"],
	"properties":{
		"summary":{"type":"string","description":"two sentences"},
		"action_items":{"type":"array","items":{"type":"string"},"maxItems":1},
		"sentiment":{"type":"string","enum":["negative","neutral","positive"]},
		"intent_confidence":{"type":"number","minimum":0,"maximum":1},
		"callback_time":{"type":["string","null"]},
		"stage":{"type":"string","enum":["early","late"]},
		"budget":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/money"}]},
		"extra":{"$ref":"#/$defs/money"},
		"evidence":{"type":"array","items":{"type":"object","additionalProperties":false,"required":["claim","quote","start"],
			"properties":{"claim":{"type":"string"},"quote":{"type":"string"},"start":{"type":"number"}}}}},
	"$defs":{"money":{"type":"object","additionalProperties":false,"required":["amount","currency"],
		"properties":{"amount":{"type":"integer","minimum":1},"currency":{"const":"EUR"}}}}}`

func TestInsightsFitTheSchema(t *testing.T) {
	t.Parallel()
	fake := openai.Start(t)
	response, err := client(fake).CreateChatCompletion(t.Context(), chat(salesSchema))
	require.NoError(t, err)
	choice := response.Choices[0]
	require.Equal(t, goopenai.FinishReasonStop, choice.FinishReason)
	require.Positive(t, response.Usage.PromptTokens)
	require.Equal(t, response.Usage.TotalTokens, response.Usage.PromptTokens+response.Usage.CompletionTokens)
	insights := openai.DefaultInsights()
	want, err := json.Marshal(map[string]any{
		"summary": insights["summary"], "action_items": []string{"Send the proposal by Friday"}, "sentiment": "positive",
		"intent_confidence": 0.9, "callback_time": nil, "stage": "early", "budget": nil,
		"extra": map[string]any{"amount": 1, "currency": "EUR"}, "evidence": insights["evidence"],
	})
	require.NoError(t, err)
	require.JSONEq(t, string(want), choice.Message.Content)

	request := fake.Requests(openai.Chat)[0]
	require.Equal(t, "gpt-4o-mini", request.Model)
	require.Contains(t, string(request.Body), "the transcript")
}

func TestTheDefaultEvidenceIsInTheDefaultTranscript(t *testing.T) {
	t.Parallel()
	evidence := openai.DefaultInsights()["evidence"].([]any)[0].(map[string]any)
	require.Contains(t, openai.DefaultTranscript().Text(), evidence["quote"])
}

func TestInsightsCanBeScripted(t *testing.T) {
	t.Parallel()
	fake := openai.Start(t)
	fake.Script(openai.Chat,
		openai.AnswerInsights(map[string]any{"sentiment": "negative", "budget": map[string]any{"amount": 500, "currency": "EUR"}}),
		openai.AnswerInsights(map[string]any{"sentiment": "furious"}),
		openai.AnswerInsights(map[string]any{"no_such_property": 1}))
	response, err := client(fake).CreateChatCompletion(t.Context(), chat(salesSchema))
	require.NoError(t, err)
	require.Contains(t, response.Choices[0].Message.Content, `"sentiment":"negative"`)
	require.Contains(t, response.Choices[0].Message.Content, `"budget":{"amount":500,"currency":"EUR"}`)
	for _, name := range []string{"sentiment", "no_such_property"} {
		_, err = client(fake).CreateChatCompletion(t.Context(), chat(salesSchema))
		require.Contains(t, apiError(t, err).Message, "refuses the scripted "+name)
	}
}

func TestTheClientsOwnSchemasFit(t *testing.T) {
	t.Parallel()
	var insights struct {
		Summary     string   `json:"summary"`
		ActionItems []string `json:"action_items"`
	}
	schema, err := jsonschema.GenerateSchemaForType(insights)
	require.NoError(t, err)
	request := chat("{}")
	request.ResponseFormat.JSONSchema.Schema = schema
	response, err := client(openai.Start(t)).CreateChatCompletion(t.Context(), request)
	require.NoError(t, err)
	require.NoError(t, schema.Unmarshal(response.Choices[0].Message.Content, &insights))
	require.NotEmpty(t, insights.Summary)
	require.Len(t, insights.ActionItems, 2)
}

func TestLooserFormatsAreAnsweredToo(t *testing.T) {
	t.Parallel()
	summary := openai.DefaultInsights()["summary"].(string)
	for name, c := range map[string]struct {
		change func(*goopenai.ChatCompletionRequest)
		want   string
	}{
		"text": {func(r *goopenai.ChatCompletionRequest) { r.ResponseFormat = nil }, summary},
		"json object": {func(r *goopenai.ChatCompletionRequest) {
			r.ResponseFormat.Type = "json_object"
			r.Messages[0].Content = "As JSON, please"
		}, `"summary":"` + summary},
		"not strict": {func(r *goopenai.ChatCompletionRequest) { r.ResponseFormat.JSONSchema.Strict = false }, `"summary":"` + summary},
		"unknown strings": {func(r *goopenai.ChatCompletionRequest) {
			r.ResponseFormat.JSONSchema.Schema = json.RawMessage(object(`{"type":"array","minItems":1,"items":{"type":"string","format":"date-time"}}`))
		}, `{"a":["2026-01-02T10:00:00Z"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := chat(salesSchema)
			c.change(&request)
			response, err := client(openai.Start(t)).CreateChatCompletion(t.Context(), request)
			require.NoError(t, err)
			require.Contains(t, response.Choices[0].Message.Content, c.want)
		})
	}
}

func TestSchemasMustBeStrict(t *testing.T) {
	t.Parallel()
	deep := `{"type":"string"}`
	for range 11 {
		deep = `{"type":"object","additionalProperties":false,"required":["a"],"properties":{"a":` + deep + `}}`
	}
	for name, c := range map[string]struct{ schema, want string }{
		"open object":         {`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`, "In context=(), 'additionalProperties' is required to be supplied and to be false."},
		"optional property":   {`{"type":"object","properties":{"a":{"type":"string"}},"required":[],"additionalProperties":false}`, "Missing 'a'."},
		"open inner object":   {object(`{"type":"object","properties":{},"required":[]}`), "In context=('properties', 'a'), 'additionalProperties'"},
		"open item":           {object(`{"type":"array","items":{"type":"object","properties":{}}}`), "In context=('properties', 'a', 'items'), 'additionalProperties'"},
		"open branch":         {object(`{"anyOf":[{"type":"null"},{"type":"object","properties":{}}]}`), "In context=('properties', 'a', 'anyOf', '1'), 'additionalProperties'"},
		"array at the root":   {`{"type":"array","items":{"type":"string"}}`, "got 'type: \"array\"'"},
		"union at the root":   {`{"type":"object","anyOf":[],"properties":{},"required":[],"additionalProperties":false}`, "'anyOf' is not permitted"},
		"unknown requirement": {`{"type":"object","properties":{},"required":["b"],"additionalProperties":false}`, "'b'"},
		"undocumented":        {object(`{"type":"string","minLength":1}`), "'minLength' is not permitted"},
		"default":             {object(`{"type":"string","default":"x"}`), "'default' is not permitted"},
		"no type":             {object(`{"description":"anything"}`), "must have a 'type' key"},
		"array without items": {object(`{"type":"array"}`), "missing items"},
		"too deep":            {deep, "exceeds limit of 10"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := client(openai.Start(t)).CreateChatCompletion(t.Context(), chat(c.schema))
			problem := apiError(t, err)
			require.Equal(t, 400, problem.HTTPStatusCode)
			require.Equal(t, "invalid_request_error", problem.Type)
			require.Contains(t, problem.Message, c.want)
		})
	}
}

func TestChatsAreRefusedAsOpenAIDoes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*goopenai.ChatCompletionRequest)
		status int
		want   string
	}{
		"unknown model":     {func(r *goopenai.ChatCompletionRequest) { r.Model = "gpt-nothing" }, 404, "gpt-nothing"},
		"no messages":       {func(r *goopenai.ChatCompletionRequest) { r.Messages = nil }, 400, "messages"},
		"name of a schema":  {func(r *goopenai.ChatCompletionRequest) { r.ResponseFormat.JSONSchema.Name = "sales call" }, 400, "name"},
		"format":            {func(r *goopenai.ChatCompletionRequest) { r.ResponseFormat.Type = "xml" }, 400, "xml"},
		"json without word": {func(r *goopenai.ChatCompletionRequest) { r.ResponseFormat.Type = "json_object" }, 400, "the word 'json'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := chat(salesSchema)
			c.change(&request)
			_, err := client(openai.Start(t)).CreateChatCompletion(t.Context(), request)
			problem := apiError(t, err)
			require.Equal(t, c.status, problem.HTTPStatusCode)
			require.Contains(t, problem.Message, c.want)
		})
	}
}

func TestErrorsHaveTheShapeOfOpenAI(t *testing.T) {
	t.Parallel()
	const null = 0 // how go-openai decodes "code": null
	for _, c := range []struct {
		status     int
		code, kind string
		wantCode   any
		retryAfter string
	}{
		{401, "invalid_api_key", "invalid_request_error", "invalid_api_key", ""},
		{429, "rate_limit_exceeded", "requests", "rate_limit_exceeded", "20"},
		{429, "insufficient_quota", "insufficient_quota", "insufficient_quota", ""},
		{500, "server_error", "server_error", null, ""},
		{503, "server_error", "server_error", null, "Fri, 02 Jan 2026 10:00:00 GMT"},
		{400, "invalid_request_error", "invalid_request_error", null, ""},
		{400, "audio_too_short", "invalid_request_error", "audio_too_short", ""},
	} {
		t.Run(c.code, func(t *testing.T) {
			t.Parallel()
			fake := openai.Start(t)
			fake.Script(openai.Transcriptions, openai.Status(c.status, c.code, c.retryAfter))
			var header http.Header
			_, err := clientThat(fake, &header).CreateTranscription(t.Context(), recording(t, "tone.ogg"))
			problem := apiError(t, err)
			require.Equal(t, c.status, problem.HTTPStatusCode)
			require.Equal(t, c.kind, problem.Type)
			require.Equal(t, c.wantCode, problem.Code)
			require.Equal(t, c.retryAfter, header.Get("Retry-After"))
			require.NotEmpty(t, header.Get("X-Request-Id"))
			_, err = client(fake).CreateTranscription(t.Context(), recording(t, "tone.ogg"))
			require.NoError(t, err, "the next request is answered again")
		})
	}
}

func TestMisbehaviourAsTheClientSeesIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step   script.Step
		leaves bool // whether the client disconnects once its request has arrived
		want   string
	}{
		"hang":         {script.Hang, true, context.Canceled.Error()},
		"slow":         {script.Slow(time.Hour), true, context.Canceled.Error()},
		"cut body":     {script.TruncateBody, false, io.ErrUnexpectedEOF.Error()},
		"not JSON":     {script.NotJSON, false, "invalid character '<'"},
		"wrong schema": {openai.WrongSchema, false, "cannot unmarshal number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := openai.Start(t)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			fake.Script(openai.Transcriptions, func(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
				if c.leaves {
					leave()
				}
				c.step(w, r, answer)
			})
			_, err := client(fake).CreateTranscription(ctx, recording(t, "tone.ogg"))
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestAnswersOfAModelThatMisbehaves(t *testing.T) {
	t.Parallel()
	fake := openai.Start(t)
	fake.Script(openai.Chat, openai.Refuse("I can't help with that."), openai.TruncatedByLength, openai.WrongSchema, openai.AnswerText("Sure! Here it is:"))
	ask := func() goopenai.ChatCompletionChoice {
		response, err := client(fake).CreateChatCompletion(t.Context(), chat(salesSchema))
		require.NoError(t, err)
		return response.Choices[0]
	}
	refused := ask()
	require.Equal(t, "I can't help with that.", refused.Message.Refusal)
	require.Empty(t, refused.Message.Content)
	cut := ask()
	require.Equal(t, goopenai.FinishReasonLength, cut.FinishReason)
	require.False(t, json.Valid([]byte(cut.Message.Content)))
	require.JSONEq(t, `{"answer":{"unexpected":[1,2,3]}}`, ask().Message.Content)
	require.Equal(t, "Sure! Here it is:", ask().Message.Content)
}

func TestTheSecondRequestCanBeHeld(t *testing.T) {
	t.Parallel()
	fake := openai.Start(t)
	fake.Script(openai.Transcriptions, script.Pass)
	gate := fake.Block(openai.Transcriptions)
	_, err := client(fake).CreateTranscription(t.Context(), recording(t, "tone.ogg"))
	require.NoError(t, err)
	second := recording(t, "tone.ogg")
	answered := make(chan error, 1)
	go func() {
		_, err := client(fake).CreateTranscription(t.Context(), second)
		answered <- err
	}()
	gate.Wait(t)
	requests := fake.WaitFor(t, openai.Transcriptions, 2)
	require.Equal(t, requests[0].Audio, requests[1].Audio)
	soon, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = fake.Wait(soon, openai.Transcriptions, 3)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, answered)
	gate.Release()
	require.NoError(t, <-answered)
}

func TestItServesWithoutStart(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	fake := openai.New(clock.At(now))
	config := goopenai.DefaultConfig(openai.Key)
	config.BaseURL = script.Start(t, fake) + "/v1"
	_, err := goopenai.NewClientWithConfig(config).ListModels(t.Context())
	require.NoError(t, err)
	require.Equal(t, now, fake.Requests(openai.Models)[0].Time)
}

func client(fake *openai.Server) *goopenai.Client { return clientThat(fake, new(http.Header)) }

// clientThat stores the header of the last response in header, because go-openai's errors have none.
func clientThat(fake *openai.Server, header *http.Header) *goopenai.Client {
	config := goopenai.DefaultConfig(openai.Key)
	config.BaseURL = fake.URL()
	config.HTTPClient = &http.Client{Transport: tap{header}}
	return goopenai.NewClientWithConfig(config)
}

type tap struct{ header *http.Header }

func (t tap) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		*t.header = response.Header
	}
	return response, err
}

func recording(t *testing.T, name string) goopenai.AudioRequest {
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return goopenai.AudioRequest{Model: goopenai.GPT4oTranscribe, FilePath: name, Reader: bytes.NewReader(raw), Format: goopenai.AudioResponseFormatJSON}
}

func chat(schema string) goopenai.ChatCompletionRequest {
	return goopenai.ChatCompletionRequest{
		Model:    goopenai.GPT4oMini,
		Messages: []goopenai.ChatCompletionMessage{{Role: "user", Content: "the transcript"}},
		ResponseFormat: &goopenai.ChatCompletionResponseFormat{
			Type:       goopenai.ChatCompletionResponseFormatTypeJSONSchema,
			JSONSchema: &goopenai.ChatCompletionResponseFormatJSONSchema{Name: "insights", Strict: true, Schema: json.RawMessage(schema)},
		},
	}
}

func object(property string) string {
	return `{"type":"object","additionalProperties":false,"required":["a"],"properties":{"a":` + property + `}}`
}

func apiError(t *testing.T, err error) *goopenai.APIError {
	t.Helper()
	var problem *goopenai.APIError
	require.ErrorAs(t, err, &problem)
	return problem
}
