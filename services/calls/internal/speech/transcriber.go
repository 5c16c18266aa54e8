package speech

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sashabaranov/go-openai"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// transcribeTimeout is the time for a request, to which half the duration of its audio is added.
const transcribeTimeout = time.Minute

// Transcriber implements call.Transcriber. Each request holds its audio in memory.
type Transcriber struct{ *endpoint }

// NewTranscriber returns a transcriber that uses that provider.
func NewTranscriber(p Provider, clk clock.Clock, tel telemetry.Set) *Transcriber {
	return &Transcriber{newEndpoint(p, clk, tel)}
}

// Send sends an audio file. It refuses to run inside a transaction.
func (t *Transcriber) Send(ctx context.Context, chunk call.Chunk, language *string, key string) (call.Answer, error) {
	file, err := os.Open(chunk.Path)
	if err != nil {
		return call.Answer{}, fmt.Errorf("open a chunk: %w", err)
	}
	defer func() { _ = file.Close() }()
	request := openai.AudioRequest{Model: t.model, FilePath: filepath.Base(chunk.Path), Reader: file, Format: t.can.format}
	if t.can.timestamps {
		request.TimestampGranularities = []openai.TranscriptionTimestampGranularity{openai.TranscriptionTimestampGranularitySegment}
	}
	if t.can.diarizes {
		request.ChunkingStrategy = "auto"
	}
	if language != nil {
		request.Language = *language
	}
	length := max(0, chunk.End-chunk.Start)
	timeout := transcribeTimeout + time.Duration(length/2*float64(time.Second))
	return t.exchange(ctx, timeout, key, length, func(ctx context.Context) error {
		_, err := t.client.CreateTranscription(ctx, request)
		return err
	})
}

// Read returns the transcript in a response. One without a text is no transcript of silence, but a bad response.
func (t *Transcriber) Read(answer []byte) (call.Transcript, error) {
	var got struct {
		Text     *string           `json:"text"`
		Language any               `json:"language"`
		Segments []json.RawMessage `json:"segments"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return call.Transcript{}, improper(err)
	}
	if got.Text == nil {
		return call.Transcript{}, improper(errors.New("there is no text"))
	}
	transcript := call.Transcript{Text: *got.Text}
	if name, ok := got.Language.(string); ok {
		transcript.Language = &name
	}
	for _, raw := range got.Segments {
		var s call.Segment
		if json.Unmarshal(raw, &s) != nil { // servers differ in what a segment is
			transcript.Segments = nil
			break
		}
		transcript.Segments = append(transcript.Segments, s)
	}
	return cleanTranscript(transcript), nil
}
