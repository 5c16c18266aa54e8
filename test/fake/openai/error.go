package openai

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/convoflow/convoflow/test/fake/script"
)

const invalidRequest = "invalid_request_error"

// apiError is the member "error" of OpenAI's error responses: https://platform.openai.com/docs/guides/error-codes.
type apiError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// Status responds with an error of the given HTTP status and code in OpenAI's format: 401 invalid_api_key, 429
// rate_limit_exceeded, 429 insufficient_quota, 500 server_error, 400 invalid_request_error, or any other. retryAfter is the
// header's text, seconds or an HTTP date, and empty for none.
func Status(httpStatus int, code, retryAfter string) script.Step {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		fail(w, httpStatus, scripted(code))
	}
}

// scripted returns the real API's error of that code. server_error and invalid_request_error are types of errors without a code.
func scripted(code string) apiError {
	switch code {
	case "invalid_api_key":
		return wrongKey("sk-wrong")
	case "rate_limit_exceeded":
		return apiError{Message: "Rate limit reached for requests. Please try again later.", Type: "requests", Code: &code}
	case "insufficient_quota":
		return apiError{Message: "You exceeded your current quota, please check your plan and billing details.", Type: code, Code: &code}
	case "server_error":
		return apiError{Message: "The server had an error while processing your request. Sorry about that!", Type: code}
	case invalidRequest:
		return apiError{Message: "We could not parse the request.", Type: code}
	}
	return apiError{Message: "The request was refused.", Type: invalidRequest, Code: &code}
}

func checkKey(r *http.Request) *apiError {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return &apiError{Message: "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth.", Type: invalidRequest}
	}
	if key != Key {
		e := wrongKey(key)
		return &e
	}
	return nil
}

func wrongKey(key string) apiError {
	code := "invalid_api_key"
	return apiError{Message: "Incorrect API key provided: " + key[:min(len(key), 5)] + "***.", Type: invalidRequest, Code: &code}
}

func unknownModel(model string) apiError {
	code := "model_not_found"
	return apiError{Message: "The model `" + model + "` does not exist or you do not have access to it.", Type: invalidRequest, Code: &code}
}

// refusal returns a 400 about one parameter; code may be empty.
func refusal(param, code, message string) *apiError {
	e := &apiError{Message: message, Type: invalidRequest, Param: &param}
	if code != "" {
		e.Code = &code
	}
	return e
}

func fail(w http.ResponseWriter, httpStatus int, e apiError) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(httpStatus)
	_ = json.NewEncoder(w).Encode(map[string]apiError{"error": e})
}

func id() string { return strings.ToLower(rand.Text()) }
