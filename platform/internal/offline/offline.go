// Package offline is an OpenAI-compatible HTTP server that needs no API key and no network. It recognizes US English speech with
// PocketSphinx, and extracts insights from transcripts with word lists and patterns. Its results have demo quality, which it
// logs. It refuses other languages, streaming, and model names other than its own, so that its results cannot be mistaken for
// those of a language model.
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

// The models of this server. A request for any other model gets a 404.
const (
	SpeechModel  = "offline-pocketsphinx"
	InsightModel = "offline-extractive"
)

// MaxUploadBytes is the largest transcription request, 5 MB more than OpenAI accepts.
const MaxUploadBytes = 30 << 20

// Config configures the server. The zero value works on Debian.
type Config struct {
	Log         *slog.Logger                      // slog.Default() if nil; never gets a transcript
	TempDir     string                            // directory for recordings during transcription; the system's if empty
	ModelDir    string                            // directory of PocketSphinx's US English model; Debian's if empty
	LookPath    func(name string) (string, error) // finds ffmpeg and pocketsphinx_continuous; exec.LookPath if nil
	Concurrency int                               // concurrent transcriptions, each of which uses one core; 2 if zero
}

// New returns the server, with OpenAI's POST /v1/audio/transcriptions, POST /v1/chat/completions and GET /v1/models. Missing
// programs are not an error here: each transcription looks them up again, and responds 503 with what to install.
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
		speech:  recognizer{tempDir: cfg.TempDir, modelDir: cfg.ModelDir, lookPath: cfg.LookPath},
		slots:   make(chan struct{}, cfg.Concurrency),
		analyst: sync.OnceValue(newAnalyst),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/audio/transcriptions", s.handle(s.transcribe))
	mux.HandleFunc("POST /v1/chat/completions", s.handle(s.chat))
	mux.HandleFunc("GET /v1/models", s.handle(s.models))
	mux.HandleFunc("/", s.handle(func(http.ResponseWriter, *http.Request) error {
		return &problem{http.StatusNotFound, "unknown_url", "this server has only /v1/audio/transcriptions, /v1/chat/completions and /v1/models"}
	}))
	return mux
}

type server struct {
	log     *slog.Logger
	speech  recognizer
	slots   chan struct{}
	analyst func() *analyst // loads its lexicon on first use
	warned  sync.Once
}

// admit logs once that the results have demo quality, and refuses models that this server does not have.
func (s *server) admit(ctx context.Context, model, own string) error {
	s.warned.Do(func() {
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
			p = &problem{http.StatusRequestEntityTooLarge, "too_large", "the request is too large for this server"}
		} else if r.Context().Err() != nil {
			p = &problem{http.StatusServiceUnavailable, "cancelled", "the request was canceled"}
		} else if !errors.As(err, &p) {
			s.log.ErrorContext(r.Context(), "offline AI request", "path", r.Pattern, "error", err)
			p = &problem{http.StatusInternalServerError, "internal", "the offline server had an internal error"}
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
	_, _ = w.Write(b) // fails only if the client has disconnected
	return nil
}
