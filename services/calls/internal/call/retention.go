package call

import (
	"context"
	"errors"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
)

// Retention is for how long recordings and transcripts are stored, from when a call was uploaded; 0 is for ever.
type Retention struct{ Recordings, Transcripts time.Duration }

// Retain removes the recordings and transcripts that are older than the retention allows, of calls that have ended and are not on legal
// hold.
func (s *Service) Retain(ctx context.Context) error {
	return errors.Join(
		s.retain(ctx, s.Retention.Recordings, Filter{HasRecording: true}, (*Call).removeRecording),
		s.retain(ctx, s.Retention.Transcripts, Filter{HasTranscript: true}, (*Call).removeTranscript),
		s.forgetAnswers(ctx),
	)
}

// forgetAnswers removes what providers have answered for calls that failed before they had a transcript.
func (s *Service) forgetAnswers(ctx context.Context) error {
	if s.Retention.Transcripts == 0 {
		return nil
	}
	return s.Steps.Forget(ctx, s.Clock.Now().Add(-s.Retention.Transcripts))
}

func (s *Service) retain(ctx context.Context, age time.Duration, f Filter, remove func(*Call, time.Time)) error {
	if age == 0 {
		return nil
	}
	now := s.Clock.Now()
	f.Ended, f.NotOnHold, f.To = true, true, new(now.Add(-age))
	return s.each(ctx, f, func(id string) error {
		_, err := s.Calls.Change(ctx, id, func(c *Call) ([]event.Event, error) {
			remove(c, now)
			return nil, nil
		})
		if fault.Is(err, fault.NotFound) {
			return nil // deleted meanwhile
		}
		return err
	})
}

// HoldRequest puts a call on legal hold, or lifts that.
type HoldRequest struct {
	ID   string `path:"id" json:"-"`
	Hold bool   `json:"legal_hold"`
}

// Hold puts a call on legal hold, or lifts that. It fails with call_not_found.
func (s *Service) Hold(ctx context.Context, req HoldRequest) (Call, error) {
	return s.Calls.Change(ctx, req.ID, func(c *Call) ([]event.Event, error) {
		if err := checkAccess(ctx, c.AgentID); err != nil {
			return nil, err
		}
		if c.LegalHold != req.Hold {
			c.LegalHold = req.Hold
			c.touch(s.Clock.Now())
		}
		return nil, nil
	})
}
