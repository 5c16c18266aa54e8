package call

import (
	"context"
	"fmt"
	"sync"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/text"
)

// transcription is the result of transcribing a recording.
type transcription struct {
	Transcript
	coverage float64
	short    bool // shorter than minDuration
}

// transcribe transcribes the recording.
func (p *Processor) transcribe(ctx context.Context, c Call, save saver) (transcription, error) {
	audio, err := p.prepare(ctx, c)
	if err != nil {
		return transcription{}, err
	}
	defer audio.Close()
	if err := p.change(ctx, c, func(saved *Call) ([]event.Event, error) {
		return nil, saved.SetDuration(c.Lease.Epoch, audio.Duration, p.Clock.Now())
	}); err != nil {
		return transcription{}, fmt.Errorf("save the duration: %w", err)
	}
	if err := p.Steps.StorePeaks(ctx, c.ID, audio.Peaks); err != nil {
		return transcription{}, err
	}
	if audio.Duration < minDuration {
		return transcription{short: true}, nil
	}
	parts, err := p.transcribeChunks(ctx, c, audio.Chunks, save)
	if err != nil {
		return transcription{}, err
	}
	whole, dropped := stitch(audio.Chunks, parts)
	p.Observer.Dropped("phrase", dropped)
	return whole, nil
}

func (p *Processor) prepare(ctx context.Context, c Call) (PreparedAudio, error) {
	file, err := p.Recordings.Open(ctx, c.Recording.Key)
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			err = fault.Wrap(err, fault.NotFound, CodeMissing, "The recording is not in the storage any more")
		}
		return PreparedAudio{}, fmt.Errorf("open the recording: %w", err)
	}
	defer func() { _ = file.Close() }()
	audio, err := p.Preparer.Prepare(ctx, file, c.Recording.ContentType)
	if err != nil {
		return PreparedAudio{}, fmt.Errorf("prepare the recording: %w", err)
	}
	return audio, nil
}

// transcribeChunks requests the transcripts of the chunks, up to Parallel at the same time. After a failure it begins no further one,
// and lets those that were sent finish: their answers are stored for the next attempt.
func (p *Processor) transcribeChunks(ctx context.Context, c Call, chunks []Chunk, save saver) ([]Transcript, error) {
	model := p.Transcriber.Model()
	steps, answers := make([]Step, len(chunks)), make([][]byte, len(chunks))
	for i, chunk := range chunks {
		// Not its bytes: another release of ffmpeg encodes the same speech differently.
		steps[i] = c.step(StepTranscribe, i, model, c.Recording.SHA256, chunk.Start, chunk.End, text.Of(chunk.Speaker), text.Of(c.Details.Language))
	}
	var (
		mu       sync.Mutex
		next     int
		done     float64
		failed   error
		panicked any
		all      sync.WaitGroup
	)
	take := func() (i int, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, failed == nil && next <= len(chunks)
	}
	end := func(i int, err error) (share float64) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil && failed == nil {
			failed = fmt.Errorf("transcribe from second %.0f on: %w", chunks[i].Start, err)
		}
		done++
		return done / float64(len(chunks))
	}
	for range min(p.Parallel, len(chunks)) {
		all.Go(func() {
			defer func() { // it continues in the worker, which releases the lease and is protected from panics
				if r := recover(); r != nil {
					mu.Lock()
					defer mu.Unlock()
					panicked = r
				}
			}()
			for i, ok := take(); ok; i, ok = take() {
				var err error
				answers[i], err = p.request(ctx, steps[i], save, func(ctx context.Context, key string) (Answer, error) {
					return p.Transcriber.Send(ctx, chunks[i], c.Details.Language, key)
				})
				if share := end(i, err); err == nil && share < 1 {
					_ = p.change(ctx, c, func(saved *Call) ([]event.Event, error) { // progress is of no consequence
						return nil, saved.SetTranscribed(c.Lease.Epoch, share, p.Clock.Now())
					})
				}
			}
		})
	}
	all.Wait()
	if panicked != nil {
		panic(panicked)
	}
	if failed != nil {
		return nil, failed
	}
	parts := make([]Transcript, len(chunks))
	for i := range chunks {
		var err error
		if parts[i], err = p.Transcriber.Read(answers[i]); err != nil {
			p.drop(ctx, steps[i], StepRejected)
			return nil, fmt.Errorf("read the transcript from second %.0f on: %w", chunks[i].Start, err)
		}
	}
	return parts, nil
}
