// Package openai is a fake OpenAI: models, transcriptions and chat completions like those of the real API, including the format
// of its errors, what it refuses and the rules of its strict schemas. Its failures can be scripted, per endpoint, and it logs
// all requests. It uses no models: transcript and insights are scripted, and by default those of a short sales call. Streaming,
// subtitles and word timestamps are refused with a 400.
package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/test/fake/script"
)

// Key is the accepted API key.
const Key = "sk-fake-openai-key"

// The endpoints, as Script, Always, Block and WaitFor name them.
const (
	Transcriptions = "/v1/audio/transcriptions"
	Chat           = "/v1/chat/completions"
	Models         = "/v1/models"
)

// Request is one request as received, before it was validated.
type Request struct {
	Time     time.Time
	Endpoint string // path
	Header   http.Header
	Bytes    int // of the whole body
	Model    string
	Body     []byte // of anything but a transcription
	Audio    Audio  // of a transcription
}

// Audio is the file part of a transcription; its fields are zero if there was none.
type Audio struct {
	Filename string
	Bytes    int
	SHA256   string // hex
}

// Server is the fake. It is safe for concurrent use. Steps are only used up by requests that the real API would accept: a wrong
// key or a body that is no audio gets its error regardless of the script.
type Server struct {
	script.Queue
	clock    clock.Clock
	url      string
	mux      *http.ServeMux
	requests script.Log[Request]
}

// New returns a fake for the caller to serve.
func New(now clock.Clock) *Server {
	s := &Server{clock: now, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET "+Models, s.models)
	s.mux.HandleFunc("POST "+Transcriptions, s.transcribe)
	s.mux.HandleFunc("POST "+Chat, s.chat)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, apiError{Message: "Invalid URL (" + r.Method + " " + r.URL.Path + ")", Type: invalidRequest})
	})
	return s
}

// Start serves a fake on loopback until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := New(clock.System{})
	s.url = script.Start(t, s) + "/v1"
	return s
}

// URL returns the base URL, with /v1, for OPENAI_BASE_URL. It is empty for a fake of New.
func (s *Server) URL() string { return s.url }

// Requests returns all requests to an endpoint so far, in order of arrival.
func (s *Server) Requests(endpoint string) []Request { return of(endpoint, s.requests.All()) }

// WaitFor returns the requests of an endpoint once at least n have arrived, and fails the test after script.Timeout. Their
// responses may not be sent yet; Block returns a gate that delays one.
func (s *Server) WaitFor(t testing.TB, endpoint string, n int) []Request {
	t.Helper()
	return of(endpoint, s.requests.WaitFor(t, atLeast(n, endpoint)))
}

// Wait is WaitFor, but waits until ctx ends.
func (s *Server) Wait(ctx context.Context, endpoint string, n int) ([]Request, error) {
	all, err := s.requests.Wait(ctx, atLeast(n, endpoint))
	return of(endpoint, all), err
}

// ServeHTTP serves the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // truncated by a client that has disconnected
	}
	w.Header().Set("X-Request-Id", "req_"+id())
	w.Header().Set("Openai-Version", "2020-10-01")
	rewind(r, body)
	s.requests.Add(describe(r, body, s.clock.Now()))
	rewind(r, body)
	if e := checkKey(r); e != nil {
		fail(w, http.StatusUnauthorized, *e)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) models(w http.ResponseWriter, r *http.Request) {
	s.Serve(w, r, func(w http.ResponseWriter, _ *http.Request) {
		var data []any
		for _, name := range slices.Concat(speechModels(), chatModels()) {
			data = append(data, map[string]any{"id": name, "object": "model", "created": 1_715_367_049, "owned_by": "openai"})
		}
		reply(w, map[string]any{"object": "list", "data": data})
	}, Models)
}

func speechModels() []string {
	return []string{"whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"}
}

func chatModels() []string {
	return []string{"gpt-4o", "gpt-4o-mini", "gpt-5.4", "gpt-5.4-mini", "gpt-5.4-nano", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-5", "gpt-5-mini", "gpt-5-nano"}
}

func rewind(r *http.Request, body []byte) {
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func of(endpoint string, all []Request) []Request {
	return slices.DeleteFunc(slices.Clone(all), func(r Request) bool { return r.Endpoint != endpoint })
}

func atLeast(n int, endpoint string) func([]Request) bool {
	return func(all []Request) bool { return len(of(endpoint, all)) >= n }
}
