package openai

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/convoflow/convoflow/test/fake/script"
)

// maxUpload is OpenAI's limit for a request with audio, in bytes.
const maxUpload = 25 << 20

// Transcript is the result of a transcription.
type Transcript struct {
	Language string  // as OpenAI names it: english
	Duration float64 // seconds
	Segments []Segment
}

// Segment is one utterance; times are seconds from the start.
type Segment struct {
	Start, End float64
	Text       string
}

// Text returns the segments in one line.
func (t Transcript) Text() string {
	var texts []string
	for _, s := range t.Segments {
		texts = append(texts, s.Text)
	}
	return strings.Join(texts, " ")
}

// DefaultTranscript returns the transcript of every recording unless AnswerTranscript sets another.
func DefaultTranscript() Transcript {
	return Transcript{Language: "english", Duration: 24, Segments: []Segment{
		{0, 4, "Hello Maria, this is Daniel from Convoflow, thanks for taking my call."},
		{4, 9, "Hi Daniel, we liked the demo, but the price is higher than we expected."},
		{9, 15, "I understand, I can offer ten percent off if you sign the yearly plan this month."},
		{15, 20, "That sounds good, please send me the proposal by Friday and I will talk to my manager."},
		{20, 24, "Great, I will send the proposal on Friday and call you next Tuesday."},
	}}
}

// AnswerTranscript responds to a transcription with t.
func AnswerTranscript(t Transcript) script.Step {
	return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) { writeTranscript(w, r, t) }
}

func (s *Server) transcribe(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > maxUpload {
		fail(w, http.StatusRequestEntityTooLarge, apiError{Type: "server_error",
			Message: fmt.Sprintf("413: Maximum content size limit (%d) exceeded (%d bytes read)", maxUpload, r.ContentLength)})
		return
	}
	if err := r.ParseMultipartForm(maxUpload); err != nil {
		fail(w, http.StatusBadRequest, apiError{Message: "Could not parse multipart form", Type: invalidRequest})
		return
	}
	if !slices.Contains(speechModels(), r.FormValue("model")) {
		fail(w, http.StatusNotFound, unknownModel(r.FormValue("model")))
		return
	}
	if e := checkFormat(r); e != nil {
		fail(w, http.StatusBadRequest, *e)
		return
	}
	if e := checkAudio(r); e != nil {
		fail(w, http.StatusBadRequest, *e)
		return
	}
	s.Serve(w, r, func(w http.ResponseWriter, r *http.Request) { writeTranscript(w, r, DefaultTranscript()) }, Transcriptions)
}

func checkFormat(r *http.Request) *apiError {
	model, format := r.FormValue("model"), r.FormValue("response_format")
	granularities := r.Form["timestamp_granularities[]"]
	switch {
	case format == "verbose_json" && model != "whisper-1":
		return refusal("response_format", "unsupported_value",
			"response_format 'verbose_json' is not compatible with model '"+model+"'. Use 'json' or 'text' instead.")
	case !slices.Contains([]string{"", "json", "text", "verbose_json"}, format):
		return refusal("response_format", "unsupported_value", "response_format '"+format+"' is not supported.")
	case len(granularities) > 0 && format != "verbose_json":
		return refusal("timestamp_granularities", "", "timestamp_granularities requires response_format 'verbose_json'.")
	case slices.Contains(granularities, "word"):
		return refusal("timestamp_granularities", "unsupported_value", "The fake has no word timestamps.")
	}
	return nil
}

// checkAudio requires a known extension, as the real API does, and the bytes of one of its formats.
func checkAudio(r *http.Request) *apiError {
	_, file, err := r.FormFile("file")
	if err != nil {
		return refusal("file", "", "you must provide a file to transcribe")
	}
	formats := []string{"flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm"}
	extension := strings.ToLower(strings.TrimPrefix(path.Ext(file.Filename), "."))
	audio, err := readAudio(r)
	if err != nil || !slices.Contains(formats, extension) || !isAudio(audio) {
		return &apiError{Type: invalidRequest,
			Message: "Invalid file format. Supported formats: ['" + strings.Join(formats, "', '") + "']"}
	}
	return nil
}

// isAudio checks the first bytes: ogg, wav, flac, m4a and mp4, webm, mp3 with and without a tag.
func isAudio(b []byte) bool {
	if len(b) < 12 {
		return false
	}
	switch {
	case bytes.HasPrefix(b, []byte("OggS")),
		bytes.HasPrefix(b, []byte("RIFF")) && string(b[8:12]) == "WAVE",
		bytes.HasPrefix(b, []byte("fLaC")),
		string(b[4:8]) == "ftyp",
		bytes.HasPrefix(b, []byte{0x1A, 0x45, 0xDF, 0xA3}),
		bytes.HasPrefix(b, []byte("ID3")):
		return true
	}
	return b[0] == 0xFF && b[1]&0xE6 == 0xE2 // MPEG frame sync, layer III
}

func writeTranscript(w http.ResponseWriter, r *http.Request, t Transcript) {
	switch r.FormValue("response_format") {
	case "text":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, t.Text()+"\n")
	case "verbose_json":
		reply(w, map[string]any{
			"task": "transcribe", "language": t.Language, "duration": t.Duration, "text": t.Text(),
			"segments": verbose(t.Segments), "usage": usage(r, t),
		})
	default:
		reply(w, map[string]any{"text": t.Text(), "usage": usage(r, t)})
	}
}

func verbose(segments []Segment) []any {
	list := make([]any, 0, len(segments))
	for i, s := range segments {
		list = append(list, map[string]any{
			"id": i, "seek": 0, "start": s.Start, "end": s.End, "text": " " + s.Text, "tokens": []int{},
			"temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.2, "no_speech_prob": 0.01,
		})
	}
	return list
}

// usage bills whisper-1 by the second and the others by the token.
func usage(r *http.Request, t Transcript) map[string]any {
	if r.FormValue("model") == "whisper-1" {
		return map[string]any{"type": "duration", "seconds": int(math.Ceil(t.Duration))}
	}
	in, out := int(t.Duration*10), tokens(t.Text())
	return map[string]any{"type": "tokens", "input_tokens": in, "output_tokens": out, "total_tokens": in + out,
		"input_token_details": map[string]int{"text_tokens": 0, "audio_tokens": in}}
}

func tokens(text string) int { return len(text)/4 + 1 }

// describe returns the log entry of a request, valid or not.
func describe(r *http.Request, body []byte, now time.Time) Request {
	described := Request{Time: now, Endpoint: r.URL.Path, Header: r.Header.Clone(), Bytes: len(body)}
	if r.URL.Path != Transcriptions {
		var named struct{ Model string }
		_ = json.Unmarshal(body, &named)
		described.Model, described.Body = named.Model, body
		return described
	}
	described.Model = r.FormValue("model")
	if audio, err := readAudio(r); err == nil {
		sum := sha256.Sum256(audio)
		described.Audio = Audio{Filename: r.MultipartForm.File["file"][0].Filename, Bytes: len(audio), SHA256: hex.EncodeToString(sum[:])}
	}
	return described
}

func readAudio(r *http.Request) ([]byte, error) {
	file, _, err := r.FormFile("file")
	if err != nil {
		return nil, fmt.Errorf("open the file part: %w", err)
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("read the file part: %w", err)
	}
	return content, nil
}
