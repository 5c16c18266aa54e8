package openai

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/convoflow/convoflow/test/fake/script"
)

// chatRequest are the fields of a request that the fake reads.
type chatRequest struct {
	Model    string
	Stream   bool
	Messages []struct {
		Role    string
		Content json.RawMessage
	}
	ResponseFormat *struct {
		Type       string
		JSONSchema struct {
			Name   string
			Strict bool
			Schema map[string]any
		} `json:"json_schema"`
	} `json:"response_format"`
}

// DefaultInsights returns the insights of every call unless AnswerInsights changes them. A response has the properties that the
// schema of its request names.
func DefaultInsights() map[string]any {
	return normal(map[string]any{
		"title":             "Price talk with Maria",
		"summary":           "Maria liked the demo but found the price too high. Daniel offered ten percent off for the yearly plan and will send a proposal by Friday.",
		"action_items":      []string{"Send the proposal by Friday", "Call Maria next Tuesday"},
		"sentiment":         "positive",
		"key_topics":        []string{"price", "discount", "yearly plan"},
		"next_step":         "Send the proposal by Friday",
		"intent_category":   "interested",
		"intent_confidence": 0.9,
		"interest_level":    "high",
		"objections":        []string{"The price is higher than expected"},
		"callback_time":     nil,
		"evidence": []map[string]any{{
			"claim": "Maria wants a proposal by Friday",
			"quote": "please send me the proposal by Friday",
			"start": 15,
		}},
	})
}

// AnswerInsights responds to a chat completion with the default insights, overridden by values. A value that the schema of the
// request forbids is an error of the test, and gets a 500 that says so.
func AnswerInsights(values map[string]any) script.Step {
	return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) { writeInsights(w, r, normal(values)) }
}

// AnswerText responds to a chat completion with content as it is, regardless of the schema.
func AnswerText(content string) script.Step {
	return answerMessage(map[string]any{"content": content, "refusal": nil}, "stop")
}

// Refuse responds to a chat completion with a refusal of the model.
func Refuse(reason string) script.Step {
	return answerMessage(map[string]any{"content": nil, "refusal": reason}, "stop")
}

// TruncatedByLength responds with a chat completion that is truncated by the token limit.
func TruncatedByLength(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	answerMessage(map[string]any{"content": `{"summary":"Maria liked the demo but fou`, "refusal": nil}, "length")(w, r, nil)
}

// WrongSchema responds with JSON that does not match the request: content with other keys, or a transcription with a text of
// the wrong type.
func WrongSchema(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	if r.URL.Path == Transcriptions {
		reply(w, map[string]any{"text": 42})
		return
	}
	AnswerText(`{"answer":{"unexpected":[1,2,3]}}`)(w, r, nil)
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	request, err := decodeChat(r)
	if err != nil {
		fail(w, http.StatusBadRequest, apiError{Message: "We could not parse the JSON body of your request.", Type: invalidRequest})
		return
	}
	if !slices.Contains(chatModels(), request.Model) {
		fail(w, http.StatusNotFound, unknownModel(request.Model))
		return
	}
	if e := checkChat(request); e != nil {
		fail(w, http.StatusBadRequest, *e)
		return
	}
	s.Serve(w, r, func(w http.ResponseWriter, r *http.Request) { writeInsights(w, r, nil) }, Chat)
}

func checkChat(request chatRequest) *apiError {
	format := request.ResponseFormat
	switch {
	case len(request.Messages) == 0:
		return refusal("messages", "", "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.")
	case request.Stream:
		return refusal("stream", "unsupported_value", "The fake does not stream.")
	case format == nil || format.Type == "text":
		return nil
	case format.Type == "json_object":
		if !mentionsJSON(request) {
			return refusal("messages", "", "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.")
		}
		return nil
	case format.Type != "json_schema":
		return refusal("response_format.type", "invalid_value", "Invalid value: '"+format.Type+"'.")
	case !validName(format.JSONSchema.Name):
		return refusal("response_format.json_schema.name", "invalid_value", "Invalid 'response_format.json_schema.name'.")
	case !format.JSONSchema.Strict:
		return nil
	}
	if problem := checkStrict(format.JSONSchema.Schema); problem != "" {
		return refusal("response_format", "", "Invalid schema for response_format '"+format.JSONSchema.Name+"': "+problem)
	}
	return nil
}

// validName reports whether OpenAI accepts a name: letters, digits, _ and -, at most 64.
func validName(name string) bool {
	odd := func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", r)
	}
	return name != "" && len(name) <= 64 && !strings.ContainsFunc(name, odd)
}

func mentionsJSON(request chatRequest) bool {
	for _, m := range request.Messages {
		if strings.Contains(strings.ToLower(string(m.Content)), "json") {
			return true
		}
	}
	return false
}

func writeInsights(w http.ResponseWriter, r *http.Request, values map[string]any) {
	request, err := decodeChat(r)
	if err != nil {
		fail(w, http.StatusInternalServerError, misscripted(err))
		return
	}
	content, err := insights(request, values)
	if err != nil {
		fail(w, http.StatusInternalServerError, misscripted(err))
		return
	}
	writeMessage(w, request, map[string]any{"content": content, "refusal": nil}, "stop")
}

// insights returns the content of a response: prose if no JSON was requested.
func insights(request chatRequest, values map[string]any) (string, error) {
	all := DefaultInsights()
	maps.Copy(all, values)
	format := request.ResponseFormat
	if format == nil || format.Type == "text" {
		return fmt.Sprint(all["summary"]), nil
	}
	if format.JSONSchema.Strict {
		fitted, err := fitInsights(format.JSONSchema.Schema, all, values)
		if err != nil {
			return "", err
		}
		all = fitted
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return "", fmt.Errorf("encode the insights: %w", err)
	}
	return string(raw), nil
}

func fitInsights(schema, all, values map[string]any) (map[string]any, error) {
	fitted, ok := fitter{schema}.fit(schema, all).(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the schema is not one of an object")
	}
	for name, value := range values {
		if !reflect.DeepEqual(fitted[name], value) {
			return nil, fmt.Errorf("the schema refuses the scripted %s", name)
		}
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", schema); err != nil {
		return nil, fmt.Errorf("add the schema: %w", err)
	}
	compiled, err := compiler.Compile("schema.json")
	if err != nil {
		return nil, fmt.Errorf("compile the schema: %w", err)
	}
	if err := compiled.Validate(fitted); err != nil {
		return nil, fmt.Errorf("fit the insights to the schema: %w", err)
	}
	return fitted, nil
}

func answerMessage(message map[string]any, finish string) script.Step {
	return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		request, err := decodeChat(r)
		if err != nil {
			fail(w, http.StatusInternalServerError, misscripted(err))
			return
		}
		writeMessage(w, request, message, finish)
	}
}

func writeMessage(w http.ResponseWriter, request chatRequest, message map[string]any, finish string) {
	in := 0
	for _, m := range request.Messages {
		in += tokens(string(m.Content))
	}
	content, _ := message["content"].(string)
	out := tokens(content)
	message = maps.Clone(message)
	message["role"] = "assistant"
	reply(w, map[string]any{
		"id": "chatcmpl-" + id(), "object": "chat.completion", "created": 1_767_348_000, "model": request.Model,
		"choices": []any{map[string]any{"index": 0, "message": message, "logprobs": nil, "finish_reason": finish}},
		"usage":   map[string]int{"prompt_tokens": in, "completion_tokens": out, "total_tokens": in + out},
	})
}

// decodeChat decodes the request and restores its body.
func decodeChat(r *http.Request) (chatRequest, error) {
	var raw json.RawMessage
	var request chatRequest
	if err := json.NewDecoder(r.Body).Decode(&raw); err != nil {
		return request, fmt.Errorf("read the chat request: %w", err)
	}
	rewind(r, raw)
	if err := json.Unmarshal(raw, &request); err != nil {
		return request, fmt.Errorf("decode the chat request: %w", err)
	}
	return request, nil
}

// normal converts values to those that encoding/json decodes to; a value without JSON becomes nil, which the schema refuses.
func normal(values map[string]any) map[string]any {
	var decoded map[string]any
	raw, err := json.Marshal(values)
	if err != nil {
		return nil
	}
	_ = json.Unmarshal(raw, &decoded)
	return decoded
}

func misscripted(err error) apiError {
	return apiError{Message: "fake openai: " + err.Error(), Type: "server_error"}
}
