package speech

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sashabaranov/go-openai"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/network"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// transcribeTimeout limits the request for one chunk of a recording, which is up to two hours long.
const transcribeTimeout = 10 * time.Minute

// Transcriber implements call.Transcriber. Each request holds its audio in memory.
type Transcriber struct {
	client *openai.Client
	model  string
	clock  clock.Clock
}

// NewTranscriber returns a transcriber that uses that provider.
func NewTranscriber(p Provider, clk clock.Clock, tel telemetry.Set) *Transcriber {
	return &Transcriber{client: client(p, tel, transcribeTimeout), model: p.Model, clock: clk}
}

// timed reports whether a model returns timestamps; others reject a request for them.
func timed(model string) bool {
	return slices.Contains([]string{openai.Whisper1, "offline-pocketsphinx"}, model)
}

// Transcribe transcribes an audio file. It refuses to run inside a transaction.
func (t *Transcriber) Transcribe(ctx context.Context, path string, language *string) (call.Transcript, string, error) {
	if err := network.Check(ctx); err != nil {
		return call.Transcript{}, "", err
	}
	file, err := os.Open(path)
	if err != nil {
		return call.Transcript{}, "", fmt.Errorf("open a chunk: %w", err)
	}
	defer func() { _ = file.Close() }()
	request := openai.AudioRequest{Model: t.model, FilePath: filepath.Base(path), Reader: file, Format: openai.AudioResponseFormatJSON}
	if timed(t.model) {
		request.Format = openai.AudioResponseFormatVerboseJSON
		request.TimestampGranularities = []openai.TranscriptionTimestampGranularity{openai.TranscriptionTimestampGranularitySegment}
	}
	if language != nil {
		request.Language = *language
	}
	observing, retryAfter := observed(ctx)
	answer, err := t.client.CreateTranscription(observing, request)
	if err != nil {
		return call.Transcript{}, "", fmt.Errorf("request a transcription: %w", classify(ctx, err, *retryAfter, t.clock))
	}
	transcript := call.Transcript{Text: answer.Text, Language: &answer.Language}
	for _, s := range answer.Segments {
		transcript.Segments = append(transcript.Segments, call.Segment{Start: s.Start, End: s.End, Text: s.Text})
	}
	return cleanTranscript(transcript), cleanModel("", t.model), nil
}
