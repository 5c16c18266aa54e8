package call

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
)

// minDuration is what a call needs to have words in it, in seconds. Providers refuse less than a tenth of it.
const minDuration = 1.0

// reclaimSize is how many calls one round of Reclaim takes over.
const reclaimSize = 100

const (
	saveTime = 3 * time.Second        // for a save that has to be done, also by a worker that has to stop
	saveWait = 500 * time.Millisecond // between tries while the database is away
)

// Scribe turns recordings into transcripts and insights. It works on one call at a time per Transcribe, any number of which
// may run at once, here and in other processes.
type Scribe struct {
	Store       Store
	Recordings  Recordings
	Listener    Listener
	Transcriber Transcriber
	Analyst     Analyst
	Clock       clock.Clock
	Log         *slog.Logger
	Waits       []time.Duration // after the first failure, the second, …; the failure after the last is final
	RenewEvery  time.Duration
}

// Transcribe does the job of a call with that epoch. An epoch that is not the call's any more is no error: somebody else
// does the work, or nobody has to. An error means that the call could not be written.
func (s *Scribe) Transcribe(ctx context.Context, id string, epoch int64) error {
	c, err := s.Store.Change(ctx, id, func(c *Call) ([]event.Event, error) { return c.Begin(epoch, s.Clock.Now()) })
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("begin with call %s: %w", id, err)
	}
	working, lose := context.WithCancelCause(ctx)
	var heart sync.WaitGroup
	heart.Go(func() { s.renew(working, c, lose) })
	defer func() { // also when the work panics: a lease that nobody works for has to end
		lose(context.Canceled)
		heart.Wait()
	}()
	err = s.work(working, c)
	lost := errors.Is(context.Cause(working), ErrStale)
	lose(context.Canceled)
	heart.Wait()
	switch {
	case err == nil:
		return nil
	case gone(err), lost:
		s.Log.InfoContext(ctx, "another worker has this call now", "call_id", id)
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return s.handBack(ctx, c)
	default:
		return s.fail(ctx, c, err)
	}
}

// work is the way from a recording to insights. What it has paid for it keeps.
func (s *Scribe) work(ctx context.Context, c Call) error {
	result := Result{Outcome: OutcomeOK}
	if c.Transcript == nil {
		t, model, short, err := s.hear(ctx, c)
		switch {
		case err != nil:
			return err
		case short:
			result.Outcome = OutcomeTooShort
		default:
			if err := s.keep(ctx, c, func(now *Call) ([]event.Event, error) {
				return nil, now.Heard(c.Lease.Epoch, t, model, s.Clock.Now())
			}); err != nil {
				return fmt.Errorf("keep the transcript: %w", err)
			}
		}
		c.Transcript = &t
	}
	switch {
	case result.Outcome == OutcomeTooShort:
	case c.Transcript.Text == "":
		result.Outcome = OutcomeNoSpeech
	default:
		insights, model, err := s.Analyst.Analyse(ctx, question(c))
		if err != nil {
			return fmt.Errorf("find insights: %w", err)
		}
		result.Insights, result.Model = insights, &model
	}
	err := s.keep(ctx, c, func(now *Call) ([]event.Event, error) {
		return now.Complete(c.Lease.Epoch, result, s.Clock.Now())
	})
	if err != nil {
		return fmt.Errorf("keep the result: %w", err)
	}
	return nil
}

func question(c Call) Question {
	q := Question{Transcript: c.Transcript.Text, CallType: c.Details.CallType, At: c.CreatedAt}
	if c.Details.RecordedAt != nil {
		q.At = *c.Details.RecordedAt
	}
	return q
}

// keep saves what was paid for: also when the worker has to stop meanwhile, and for as long as the lease lasts when the
// database is away.
func (s *Scribe) keep(ctx context.Context, c Call, fn func(*Call) ([]event.Event, error)) error {
	for {
		saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
		err := s.change(saving, c, fn)
		cancel()
		if err == nil || gone(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(saveWait):
		}
	}
}

// hear transcribes a recording. short says that there is too little of it to try.
func (s *Scribe) hear(ctx context.Context, c Call) (t Transcript, model string, short bool, err error) {
	file, err := s.Recordings.Open(ctx, c.Recording.Key)
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			err = fault.Wrap(err, fault.NotFound, CodeMissing, "The recording is not in the storage any more")
		}
		return t, "", false, fmt.Errorf("open the recording: %w", err)
	}
	defer func() { _ = file.Close() }()
	sound, err := s.Listener.Listen(ctx, file, c.Recording.ContentType)
	if err != nil {
		return t, "", false, fmt.Errorf("decode the recording: %w", err)
	}
	defer sound.Close()
	if err := s.change(ctx, c, func(now *Call) ([]event.Event, error) {
		return nil, now.Measured(c.Lease.Epoch, sound.Duration, s.Clock.Now())
	}); err != nil {
		return t, "", false, fmt.Errorf("keep the duration: %w", err)
	}
	if sound.Duration < minDuration {
		return t, "", true, nil
	}
	var texts []string
	for _, part := range sound.Parts {
		heard, by, err := s.Transcriber.Transcribe(ctx, part.Path, c.Details.Language)
		if err != nil {
			return t, "", false, fmt.Errorf("transcribe from second %.0f on: %w", part.Start, err)
		}
		model = by
		if t.Language == nil {
			t.Language = heard.Language
		}
		if text := clean(heard.Text); text != "" {
			texts = append(texts, text)
		}
		for _, segment := range heard.Segments {
			segment.Start, segment.End, segment.Text = segment.Start+part.Start, segment.End+part.Start, clean(segment.Text)
			t.Segments = append(t.Segments, segment)
		}
	}
	t.Text = strings.Join(texts, "\n")
	return t, model, false, nil
}

// clean takes away what PostgreSQL cannot keep.
func clean(text string) string {
	return strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", ""))
}

// renew is the heartbeat of a worker until ctx ends. A worker that lost its lease, or cannot say in time that it lives,
// has to stop.
func (s *Scribe) renew(ctx context.Context, c Call, lose context.CancelCauseFunc) {
	ticker := time.NewTicker(s.RenewEvery)
	defer ticker.Stop()
	good := *c.Lease.Until
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := s.Clock.Now()
		err := s.change(ctx, c, func(c2 *Call) ([]event.Event, error) { return nil, c2.Renew(c.Lease.Epoch, now) })
		switch {
		case err == nil:
			good = now.Add(LeaseTime)
		case gone(err) || !s.Clock.Now().Before(good):
			lose(ErrStale)
			return
		}
	}
}

// fail records a failure, with its cause in the log only.
func (s *Scribe) fail(ctx context.Context, c Call, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
	defer cancel()
	saved, err := s.Store.Change(ctx, c.ID, func(now *Call) ([]event.Event, error) {
		return now.Fail(c.Lease.Epoch, cause, s.Waits, s.Clock.Now())
	})
	if err != nil {
		if gone(err) {
			return nil
		}
		return fmt.Errorf("record the failure of call %s: %w", c.ID, errors.Join(err, cause))
	}
	s.Log.WarnContext(ctx, "a transcription failed", "call_id", c.ID, "code", fault.Of(cause).Code, "failures", saved.Lease.Failures, "again", saved.Next != nil, "error", cause)
	return nil
}

// handBack lets another worker, or this one after its restart, go on at once.
func (s *Scribe) handBack(ctx context.Context, c Call) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
	defer cancel()
	err := s.change(ctx, c, func(now *Call) ([]event.Event, error) { return nil, now.HandBack(c.Lease.Epoch, s.Clock.Now()) })
	if err != nil && !gone(err) {
		return fmt.Errorf("hand back call %s: %w", c.ID, err)
	}
	return nil
}

func (s *Scribe) change(ctx context.Context, c Call, fn func(*Call) ([]event.Event, error)) error {
	_, err := s.Store.Change(ctx, c.ID, fn)
	return err
}

// gone reports whether the call is somebody else's work now, or nobody's.
func gone(err error) bool {
	return errors.Is(err, ErrStale) || fault.Is(err, fault.NotFound) && fault.Of(err).Code == codeNotFound
}

// Reclaim takes over the calls whose worker gave no sign of life for LeaseTime, and asks again for jobs that got lost.
func (s *Scribe) Reclaim(ctx context.Context) error {
	page, err := s.Store.List(ctx, Filter{LeaseBefore: new(s.Clock.Now()), Limit: reclaimSize})
	if err != nil {
		return fmt.Errorf("list expired leases: %w", err)
	}
	for _, c := range page.Calls {
		saved, err := s.Store.Change(ctx, c.ID, func(c *Call) ([]event.Event, error) { return c.Reclaim(s.Clock.Now()), nil })
		if err != nil && !gone(err) {
			return fmt.Errorf("reclaim call %s: %w", c.ID, err)
		}
		if saved.Next != nil {
			s.Log.WarnContext(ctx, "a call is taken over", "call_id", c.ID, "held", c.Lease.Held, "attempts", c.Attempts)
		}
	}
	return nil
}
