package offline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sashabaranov/go-openai"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/console/sample"
	"github.com/convoflow/convoflow/libs/telemetry/telemetrytest"
	"github.com/convoflow/convoflow/platform/internal/offline"
)

type fixture struct {
	url    string
	temp   string
	log    *telemetrytest.Log
	client *openai.Client
}

func start(t *testing.T, cfg offline.Config) fixture {
	t.Helper()
	log := new(telemetrytest.Log)
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	cfg.TempDir = t.TempDir()
	server := httptest.NewServer(offline.New(cfg))
	t.Cleanup(server.Close)
	client := openai.DefaultConfig("any key")
	client.BaseURL = server.URL + "/v1"
	return fixture{server.URL, cfg.TempDir, log, openai.NewClientWithConfig(client)}
}

// requireNoFiles waits until the handler has removed its files, which it does after it has sent the response.
func (f fixture) requireNoFiles(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		files, err := os.ReadDir(f.temp)
		return err == nil && len(files) == 0
	}, time.Minute, 5*time.Millisecond)
}

func (f fixture) post(t *testing.T, path, contentType string, body io.Reader) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+path, body)
	require.NoError(t, err)
	req.Header.Set("Content-Type", contentType)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func form(t *testing.T, file []byte, fields map[string]string) (contentType string, body *bytes.Buffer) {
	t.Helper()
	body = new(bytes.Buffer)
	w := multipart.NewWriter(body)
	for name, value := range fields {
		require.NoError(t, w.WriteField(name, value))
	}
	if file != nil {
		part, err := w.CreateFormFile("file", "call.ogg")
		require.NoError(t, err)
		_, err = part.Write(file)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return w.FormDataContentType(), body
}

func requireProblem(t *testing.T, res *http.Response, status int, code string) string {
	t.Helper()
	var body struct {
		Error struct{ Message, Type, Code string }
	}
	require.Equal(t, status, res.StatusCode)
	require.Equal(t, "application/json", res.Header.Get("Content-Type"))
	require.NoError(t, json.NewDecoder(res.Body).Decode(&body))
	require.Equal(t, code, body.Error.Code)
	require.NotEmpty(t, body.Error.Message)
	if status < 500 {
		require.Equal(t, "invalid_request_error", body.Error.Type)
	} else {
		require.Equal(t, "server_error", body.Error.Type)
	}
	return body.Error.Message
}

func TestModelsAreListed(t *testing.T) {
	t.Parallel()
	f := start(t, offline.Config{})
	list, err := f.client.ListModels(t.Context())
	require.NoError(t, err)
	var ids []string
	for _, m := range list.Models {
		ids = append(ids, m.ID)
	}
	require.Equal(t, []string{offline.SpeechModel, offline.InsightModel}, ids)
}

func TestUnknownPathIsAProblem(t *testing.T) {
	t.Parallel()
	f := start(t, offline.Config{})
	requireProblem(t, f.post(t, "/v1/embeddings", "application/json", strings.NewReader("{}")), http.StatusNotFound, "unknown_url")
}

// TestSalesCall transcribes a real recording with PocketSphinx, and extracts insights from the transcript.
func TestSalesCall(t *testing.T) {
	t.Parallel()
	f := start(t, offline.Config{})
	transcript, err := f.client.CreateTranscription(t.Context(), openai.AudioRequest{
		Model: offline.SpeechModel, FilePath: sample.SalesCallName, Reader: bytes.NewReader(sample.SalesCall()),
		Format: openai.AudioResponseFormatVerboseJSON, Language: "en",
	})
	require.NoError(t, err)
	f.requireNoFiles(t)

	require.Equal(t, "english", transcript.Language)
	require.InDelta(t, 38.3, transcript.Duration, 0.5)
	require.GreaterOrEqual(t, len(transcript.Segments), 6)
	end, texts := 0.0, []string{}
	for n, s := range transcript.Segments {
		require.Equal(t, n, s.ID)
		require.NotEmpty(t, s.Text)
		require.GreaterOrEqual(t, s.Start, end)
		require.Greater(t, s.End, s.Start)
		require.LessOrEqual(t, s.AvgLogprob, 0.0)
		end, texts = s.End, append(texts, s.Text)
	}
	require.LessOrEqual(t, end, transcript.Duration)
	require.Equal(t, strings.Join(texts, "\n"), transcript.Text)
	for _, word := range []string{"product", "pricing", "price is too high", "budget", "proposal by friday", "schedule", "next week"} {
		require.Contains(t, transcript.Text, word)
	}
	rate := wordErrorRate(script(t), transcript.Text)
	t.Logf("word error rate %.3f", rate)
	require.Less(t, rate, 0.15)

	got := f.insights(t, transcript.Text)
	require.Equal(t, "positive", got.Sentiment)
	require.Equal(t, "interested", got.IntentCategory)
	require.Contains(t, strings.Join(got.ActionItems, "\n"), "I will send you the proposal by Friday")
	require.Contains(t, strings.Join(got.ActionItems, "\n"), "schedule")
	require.Contains(t, strings.Join(got.Objections, "\n"), "price is too high")

	require.Equal(t, 1, strings.Count(f.log.String(), "demo quality, set OPENAI_API_KEY"))
	require.NotContains(t, f.log.String(), "proposal", "a transcript in the log")
}

// script returns the text of the recording, from the script that generated it.
func script(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile("../../../scripts/make-demo-audio")
	require.NoError(t, err)
	var spoken []string
	for line := range strings.Lines(string(source)) {
		if voice, text, ok := strings.Cut(line, "|"); ok && (voice == "slt" || voice == "rms") {
			spoken = append(spoken, strings.TrimSpace(text))
		}
	}
	require.Len(t, spoken, 9)
	return strings.Join(spoken, "\n")
}

// wordErrorRate returns the edit distance in words, divided by the number of words in reference.
func wordErrorRate(reference, recognized string) float64 {
	words := func(text string) []string {
		return strings.Fields(strings.NewReplacer(".", "", ",", "", "?", "").Replace(strings.ToLower(text)))
	}
	want, got := words(reference), words(recognized)
	row := make([]int, len(got)+1)
	for j := range row {
		row[j] = j
	}
	for i, w := range want {
		diagonal := row[0]
		row[0] = i + 1
		for j, g := range got {
			cost := diagonal
			if w != g {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return float64(row[len(got)]) / float64(len(want))
}

func TestTranscriptionFormats(t *testing.T) {
	t.Parallel()
	f := start(t, offline.Config{})
	silence := wav(16000)
	for format, want := range map[string]string{
		"":             `{"text":""}`,
		"json":         `{"text":""}`,
		"text":         "\n",
		"verbose_json": `{"task":"transcribe","language":"english","duration":1,"text":"","segments":[]}`,
	} {
		contentType, body := form(t, silence, map[string]string{"model": offline.SpeechModel, "response_format": format})
		res := f.post(t, "/v1/audio/transcriptions", contentType, body)
		got, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode, string(got))
		require.Equal(t, want, string(got), format)
	}
}

// wav returns silence with the given number of samples at 16 kHz.
func wav(samples int) []byte {
	size := samples * 2
	header := "RIFF" + little(36+size) + "WAVEfmt " + little(16) + "\x01\x00\x01\x00" + little(16000) + little(32000) + "\x02\x00\x10\x00data" + little(size)
	return append([]byte(header), make([]byte, size)...)
}

func little(n int) string { return string([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}) }

func TestTranscriptionProblems(t *testing.T) {
	t.Parallel()
	f := start(t, offline.Config{})
	own := map[string]string{"model": offline.SpeechModel}
	secret := filepath.Join(t.TempDir(), "secret.ogg")
	require.NoError(t, os.WriteFile(secret, sample.SalesCall(), 0o600))
	for name, c := range map[string]struct {
		file   []byte
		fields map[string]string
		status int
		code   string
	}{
		"no file":        {nil, own, 400, "malformed_form"},
		"other model":    {wav(10), map[string]string{"model": "whisper-1"}, 404, "model_not_found"},
		"other language": {wav(10), map[string]string{"model": offline.SpeechModel, "language": "de"}, 400, "unsupported_language"},
		"other format":   {wav(10), map[string]string{"model": offline.SpeechModel, "response_format": "srt"}, 400, "unsupported_format"},
		"text as audio":  {[]byte("this is no recording"), own, 400, "audio_unreadable"},
		"empty":          {[]byte{}, own, 400, "audio_unreadable"},
		"playlist":       {[]byte("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n" + secret + "\n#EXT-X-ENDLIST\n"), own, 400, "audio_unreadable"},
		"too large":      {make([]byte, offline.MaxUploadBytes), own, 413, "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contentType, body := form(t, c.file, c.fields)
			requireProblem(t, f.post(t, "/v1/audio/transcriptions", contentType, body), c.status, c.code)
			require.NotContains(t, f.log.String(), "level=ERROR")
		})
	}
	t.Cleanup(func() { f.requireNoFiles(t) })
}

func TestMalformedForm(t *testing.T) {
	t.Parallel()
	f := start(t, offline.Config{})
	contentType, body := form(t, wav(16000), map[string]string{"model": offline.SpeechModel})
	for name, c := range map[string]struct {
		contentType string
		body        io.Reader
	}{
		"not multipart": {"application/json", strings.NewReader("{}")},
		"no boundary":   {"multipart/form-data", strings.NewReader("--x")},
		"cut in two":    {contentType, bytes.NewReader(body.Bytes()[:body.Len()/2])},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireProblem(t, f.post(t, "/v1/audio/transcriptions", c.contentType, c.body), http.StatusBadRequest, "malformed_form")
		})
	}
	t.Cleanup(func() { f.requireNoFiles(t) })
}

func TestTheErrorForMissingProgramsSaysWhatToInstall(t *testing.T) {
	t.Parallel()
	without := func(missing string) func(string) (string, error) {
		return func(name string) (string, error) {
			if name == missing {
				return "", exec.ErrNotFound
			}
			return exec.LookPath(name)
		}
	}
	for name, cfg := range map[string]offline.Config{
		"PocketSphinx": {LookPath: without("pocketsphinx_continuous")},
		"ffmpeg":       {LookPath: without("ffmpeg")},
		"model":        {ModelDir: t.TempDir()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, cfg)
			_, err := f.client.CreateTranscription(t.Context(), openai.AudioRequest{
				Model: offline.SpeechModel, FilePath: sample.SalesCallName, Reader: bytes.NewReader(sample.SalesCall()),
			})
			var problem *openai.APIError
			require.ErrorAs(t, err, &problem)
			require.Equal(t, http.StatusServiceUnavailable, problem.HTTPStatusCode)
			require.Equal(t, "provider_unavailable", problem.Code)
			require.Contains(t, problem.Message, name)
			require.Contains(t, problem.Message, "apt-get install pocketsphinx pocketsphinx-en-us ffmpeg, or set OPENAI_API_KEY")
			f.requireNoFiles(t)
		})
	}
}

// The request is canceled while its program and a child process are running, and while another request waits.
func TestACanceledRequestKillsItsProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stuck, pidFile := filepath.Join(dir, "stuck"), filepath.Join(dir, "pid")
	require.NoError(t, os.WriteFile(stuck, []byte("#!/bin/sh\nsleep 300 &\necho $! >"+pidFile+".new\nmv "+pidFile+".new "+pidFile+"\nwait\n"), 0o700))
	f := start(t, offline.Config{Concurrency: 1, LookPath: func(string) (string, error) { return stuck, nil }})

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	ask := func() {
		_, err := f.client.CreateTranscription(ctx, openai.AudioRequest{Model: offline.SpeechModel, FilePath: "a.wav", Reader: bytes.NewReader(wav(10))})
		ended <- err
	}
	go ask()
	var pid []byte
	require.Eventually(t, func() (found bool) {
		var err error
		pid, err = os.ReadFile(pidFile)
		return err == nil
	}, time.Minute, 5*time.Millisecond)
	go ask()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, time.Minute, 5*time.Millisecond)
	f.requireNoFiles(t)
}
