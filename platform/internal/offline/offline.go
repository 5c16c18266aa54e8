// Package offline is the AI that needs no key and no network: an OpenAI-compatible HTTP server that recognizes US English
// speech with PocketSphinx and extracts insights from a transcript with word lists and patterns. It is demo quality, says
// so in its log, and answers under its own model names only, so that nothing it made can pass for a language model's work.
// It refuses other languages, streaming, and every model name that is not its own.
package offline

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os/exec"
	"sync"
)

// The models this server has. A request for any other one is answered 404.
const (
	SpeechModel  = "offline-pocketsphinx"
	InsightModel = "offline-extractive"
)

// MaxUploadBytes is the largest request for a transcription, 5 MB more than OpenAI takes.
const MaxUploadBytes = 30 << 20

// Config says what the server works with. The zero value works on Debian.
type Config struct {
	Log         *slog.Logger                      // slog.Default() when nil; never sees a transcript
	TempDir     string                            // where recordings lie while they are worked on; the system's when empty
	ModelDir    string                            // PocketSphinx's US English model; where Debian puts it when empty
	LookPath    func(name string) (string, error) // finds ffmpeg and pocketsphinx_continuous; exec.LookPath when nil
	Concurrency int                               // transcriptions at a time, each takes one core; 2 when zero, the others wait
}

// New makes the server: POST /v1/audio/transcriptions, POST /v1/chat/completions and GET /v1/models, as OpenAI has them.
// Missing programs are no error here: each transcription asks for them anew, and answers 503 with what to install.
func New(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.ModelDir == "" {
		cfg.ModelDir = "/usr/share/pocketsphinx/model/en-us"
	}
	if cfg.LookPath == nil {
		cfg.LookPath = exec.LookPath
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 2
	}
	s := &server{
		log:     cfg.Log,
		ear:     ear{tempDir: cfg.TempDir, modelDir: cfg.ModelDir, lookPath: cfg.LookPath},
		slots:   make(chan struct{}, cfg.Concurrency),
		analyst: sync.OnceValue(newAnalyst),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/audio/transcriptions", s.handle(s.transcribe))
	mux.HandleFunc("POST /v1/chat/completions", s.handle(s.chat))
	mux.HandleFunc("GET /v1/models", s.handle(s.models))
	mux.HandleFunc("/", s.handle(func(http.ResponseWriter, *http.Request) error {
		return &problem{http.StatusNotFound, "unknown_url", "this server has /v1/audio/transcriptions, /v1/chat/completions and /v1/models"}
	}))
	return mux
}

type server struct {
	log     *slog.Logger
	ear     ear
	slots   chan struct{}
	analyst func() *analyst // loads its lexicon at the first use
	honest  sync.Once
}

// admit says once what the work of this server is worth, and refuses models that it does not have.
func (s *server) admit(ctx context.Context, model, own string) error {
	s.honest.Do(func() {
		s.log.WarnContext(ctx, "offline AI in use: demo quality, set OPENAI_API_KEY for real results")
	})
	if model != own {
		return &problem{http.StatusNotFound, "model_not_found", "the offline server does this with the model " + own + " only"}
	}
	return nil
}

func (s *server) models(w http.ResponseWriter, _ *http.Request) error {
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		OwnedBy string `json:"owned_by"`
	}
	return answer(w, http.StatusOK, map[string]any{
		"object": "list",
		"data":   []model{{SpeechModel, "model", "convoflow"}, {InsightModel, "model", "convoflow"}},
	})
}

// problem is an error that the client may see.
type problem struct {
	status  int
	code    string
	message string
}

func (p *problem) Error() string { return p.message }

func invalid(code, message string) *problem { return &problem{http.StatusBadRequest, code, message} }

func (s *server) handle(serve func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := serve(w, r)
		if err == nil {
			return
		}
		p := new(problem)
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			p = &problem{http.StatusRequestEntityTooLarge, "too_large", "the request is larger than this server takes"}
		} else if r.Context().Err() != nil {
			p = &problem{http.StatusServiceUnavailable, "cancelled", "the request was given up"}
		} else if !errors.As(err, &p) {
			s.log.ErrorContext(r.Context(), "offline AI request", "path", r.Pattern, "error", err)
			p = &problem{http.StatusInternalServerError, "internal", "the offline server had a problem of its own"}
		}
		kind := "invalid_request_error"
		if p.status >= http.StatusInternalServerError {
			kind = "server_error"
		}
		_ = answer(w, p.status, map[string]any{"error": map[string]any{
			"message": p.message, "type": kind, "param": nil, "code": p.code,
		}})
	}
}

func answer(w http.ResponseWriter, status int, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // a client that has gone is not this server's problem
	return nil
}
