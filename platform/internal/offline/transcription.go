package offline

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// transcribe transcribes one recording. A request waits for a slot before its body is read, so that waiting requests use no disk.
func (s *server) transcribe(w http.ResponseWriter, r *http.Request) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	dir, err := os.MkdirTemp(s.speech.tempDir, "offline-")
	if err != nil {
		return fmt.Errorf("create a directory for a recording: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	recording := filepath.Join(dir, "recording")
	r.Body = http.MaxBytesReader(w, r.Body, MaxUploadBytes)
	fields, err := readForm(r, recording)
	if err != nil {
		return err
	}
	if err := s.admit(r.Context(), fields["model"], SpeechModel); err != nil {
		return err
	}
	if l := strings.ToLower(fields["language"]); l != "" && l != "en" && !strings.HasPrefix(l, "en-") {
		return invalid("unsupported_language", "the offline server supports English only (language en); set OPENAI_API_KEY for other languages")
	}
	render, ok := formats()[fields["response_format"]]
	if !ok {
		return invalid("unsupported_format", "response_format must be json, verbose_json or text")
	}
	recognized, err := s.speech.recognize(r.Context(), dir, recording)
	if err != nil {
		return err
	}
	return render(w, recognized)
}

// readForm stores the part "file" at path and returns the other fields of the form.
func readForm(r *http.Request, path string) (map[string]string, error) {
	malformed := invalid("malformed_form", "the body must be multipart/form-data with a file and a model")
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, malformed
	}
	fields, found := map[string]string{}, false
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && part.FormName() == "file" {
			found = true
			err = store(part, path)
		} else if err == nil {
			err = readField(part, fields)
		}
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return nil, err
		} else if pathErr := new(os.PathError); errors.As(err, &pathErr) {
			return nil, fmt.Errorf("store a recording: %w", err)
		} else if err != nil {
			return nil, malformed
		}
	}
	if !found {
		return nil, malformed
	}
	return fields, nil
}

func store(part *multipart.Part, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, part)
	return errors.Join(err, f.Close())
}

func readField(part *multipart.Part, fields map[string]string) error {
	value, err := io.ReadAll(io.LimitReader(part, 4<<10))
	fields[part.FormName()] = string(value)
	return err
}

// formats are the response formats. The default is JSON, as in OpenAI's API.
func formats() map[string]func(http.ResponseWriter, speech) error {
	plain := func(w http.ResponseWriter, s speech) error {
		return answer(w, http.StatusOK, map[string]string{"text": s.text()})
	}
	return map[string]func(http.ResponseWriter, speech) error{
		"": plain, "json": plain,
		"text": func(w http.ResponseWriter, s speech) error {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, s.text()+"\n")
			return nil
		},
		"verbose_json": func(w http.ResponseWriter, s speech) error {
			return answer(w, http.StatusOK, verbose{
				Task: "transcribe", Language: "english", Duration: s.seconds, Text: s.text(), Segments: s.segments,
			})
		},
	}
}

// verbose is OpenAI's format verbose_json.
type verbose struct {
	Task     string    `json:"task"`
	Language string    `json:"language"` // the name, as in OpenAI's API
	Duration float64   `json:"duration"` // seconds
	Text     string    `json:"text"`
	Segments []segment `json:"segments"`
}
