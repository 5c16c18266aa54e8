package offline

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxChatBytes is the largest request: a transcript of a whole day of speech.
const maxChatBytes = 4 << 20

// chat responds with insights from the transcript in the last user message, in the requested schema. It follows no instructions,
// neither in the system message nor in the transcript.
func (s *server) chat(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxChatBytes))
	if err != nil {
		return err
	}
	var q completionRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return invalid("malformed_json", "the body is not a chat completion request")
	}
	if err := s.admit(r.Context(), q.Model, InsightModel); err != nil {
		return err
	}
	if q.Stream {
		return invalid("unsupported_stream", "the offline server does not stream")
	}
	text, ok := q.transcript()
	if !ok {
		return invalid("missing_message", "there is no message with the role user")
	}
	content, err := q.content(s.analyst().analyse(text))
	if err != nil {
		return err
	}
	prompt, completion := tokens(string(body)), tokens(content)
	return answer(w, http.StatusOK, map[string]any{
		"id":     fmt.Sprintf("chatcmpl-%x", sha256.Sum256(body))[:33],
		"object": "chat.completion",
		"model":  InsightModel,
		"choices": []any{map[string]any{
			"index": 0, "finish_reason": "stop",
			"message": map[string]any{"role": "assistant", "content": content, "refusal": nil},
		}},
		"usage": map[string]int{"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
	})
}

// completionRequest is a chat completion request.
type completionRequest struct {
	Model          string    `json:"model"`
	Stream         bool      `json:"stream"`
	Messages       []message `json:"messages"`
	ResponseFormat struct {
		Type       string `json:"type"`
		JSONSchema struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	} `json:"response_format"`
}

type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is a text, or OpenAI's list of parts, of which only the texts are used.
type content string

func (c *content) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err == nil {
		*c = content(text)
		return nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	for _, p := range parts {
		text += p.Text + "\n"
	}
	*c = content(text)
	return nil
}

// transcript returns the text between the transcript tags of the last user message, or the whole message if it has no tags.
func (q completionRequest) transcript() (string, bool) {
	for i := len(q.Messages) - 1; i >= 0; i-- {
		if q.Messages[i].Role != "user" {
			continue
		}
		text := string(q.Messages[i].Content)
		if _, after, ok := strings.Cut(text, "<transcript>"); ok {
			text = after
			if end := strings.LastIndex(text, "</transcript>"); end >= 0 {
				text = text[:end]
			}
		}
		return text, true
	}
	return "", false
}

// content returns the content of the response: JSON in the requested schema, JSON with all fields, or the summary as text.
func (q completionRequest) content(i insight) (string, error) {
	switch q.ResponseFormat.Type {
	case "", "text":
		return i.Summary, nil
	case "json_object":
		b, err := json.Marshal(i)
		return string(b), err
	case "json_schema":
		return fill(q.ResponseFormat.JSONSchema.Schema, i)
	}
	return "", invalid("unsupported_format", "response_format must be text, json_object or json_schema")
}

// tokens estimates the number of tokens: one per four bytes.
func tokens(text string) int { return (len(text) + 3) / 4 }
