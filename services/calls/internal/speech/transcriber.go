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
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// transcribeTimeout is for one part of a recording, up to two hours long.
const transcribeTimeout = 10 * time.Minute

// Transcriber is a call.Transcriber. A request holds its audio in memory, so the number of calls at once is the number of
// such bodies.
type Transcriber struct {
	client *openai.Client
	model  string
	clock  clock.Clock
}

// NewTranscriber makes a transcriber with that provider.
func NewTranscriber(p Provider, clk clock.Clock, tel telemetry.Set) *Transcriber {
	return &Transcriber{client: client(p, tel, transcribeTimeout), model: p.Model, clock: clk}
}

// timed reports whether a model gives the times of what it hears; others refuse to be asked.
func timed(model string) bool {
	return slices.Contains([]string{openai.Whisper1, "offline-pocketsphinx"}, model)
}

// Transcribe hears the words of an audio file.
func (t *Transcriber) Transcribe(ctx context.Context, path string, language *string) (call.Transcript, string, error) {
	file, err := os.Open(path)
	if err != nil {
		return call.Transcript{}, "", fmt.Errorf("open a part: %w", err)
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
	asking, retryAfter := observed(ctx)
	answer, err := t.client.CreateTranscription(asking, request)
	if err != nil {
		return call.Transcript{}, "", fmt.Errorf("ask for a transcription: %w", classify(ctx, err, *retryAfter, t.clock))
	}
	heard := call.Transcript{Text: answer.Text, Language: languageCode(answer.Language)}
	for _, s := range answer.Segments {
		heard.Segments = append(heard.Segments, call.Segment{Start: s.Start, End: s.End, Text: s.Text})
	}
	return heard, t.model, nil
}
