package call

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// codeNotFound distinguishes a call that does not exist from other faults of that kind.
const codeNotFound = "call_not_found"

const codeOnHold = "call_on_hold"

// TooLarge is the fault of a recording with more than that many bytes.
func TooLarge(maxBytes int64) error {
	return fault.New(fault.TooLarge, "audio_too_large", fmt.Sprintf("The recording is over %d MB", maxBytes>>20))
}

// NotFound is the fault of a call that does not exist.
func NotFound() error { return fault.New(fault.NotFound, codeNotFound, "Call not found") }

// Service implements the operations on calls.
type Service struct {
	Calls          Store
	Revisions      Revisions
	Database       Database
	Recordings     Recordings
	Clients        copies.Of[Client]
	Phones         Phones
	Analyst        Analyst
	Leads          Leads
	FetchLead      copies.Fetch[Lead]
	NormalizePhone NormalizePhone
	Requests       Requests
	Consumption    Consumption
	AgentQuota     Quota
	TeamQuota      Quota  // of all agents together
	LinkKey        []byte // signs the addresses of recordings
	Waveforms      Waveforms
	Watcher        *Watcher
	Retention      Retention
	Budget         Budget
	Steps          Steps
	Clock          clock.Clock
}

// IDRequest names one call.
type IDRequest struct {
	ID string `path:"id"`
}

// Get returns a call. It fails with call_not_found or call_forbidden.
func (s *Service) Get(ctx context.Context, req IDRequest) (Call, error) {
	c, err := s.Calls.Find(ctx, req.ID)
	if err != nil {
		return Call{}, err
	}
	return c, checkAccess(ctx, c.AgentID)
}

// Version returns the version of what Get returns. It fails as Get does, and loads no transcript.
func (s *Service) Version(ctx context.Context, req IDRequest) (int64, error) {
	r, err := s.Revisions.Find(ctx, req.ID)
	if err != nil {
		return 0, err
	}
	return r.Version, checkAccess(ctx, r.AgentID)
}

// checkAccess fails unless the caller may see a call of that agent.
func checkAccess(ctx context.Context, agentID string) error {
	caller, err := identity.From(ctx)
	if err != nil {
		return err
	}
	if !caller.MaySee(agentID) {
		return fault.New(fault.Forbidden, "call_forbidden", "This call belongs to another agent")
	}
	return nil
}

// Audio is an open recording with its call.
type Audio struct {
	Call    Call
	Content io.ReadSeekCloser
}

// AudioRequest names a recording.
type AudioRequest struct {
	ID    string `path:"id"`
	Token string `query:"token"` // of an AudioLink, in place of a caller
}

// Audio opens the recording of a call; the caller closes it. It fails as Get does, and with audio_not_found or audio_link_invalid.
func (s *Service) Audio(ctx context.Context, req AudioRequest) (Audio, error) {
	var c Call
	var err error
	if req.Token != "" {
		if err := s.checkLink(req.ID, req.Token); err != nil {
			return Audio{}, err
		}
		c, err = s.Calls.Find(ctx, req.ID)
	} else {
		c, err = s.Get(ctx, IDRequest{ID: req.ID})
	}
	if err != nil {
		return Audio{}, err
	}
	if c.Recording.Key == "" {
		return Audio{}, noRecording()
	}
	content, err := s.Recordings.Open(ctx, c.Recording.Key)
	return Audio{c, content}, err
}

// TranscriptRequest names a transcript and the format of its file.
type TranscriptRequest struct {
	ID     string `path:"id"`
	Format string `query:"format"`
}

// TranscriptFile is a transcript to download.
type TranscriptFile struct {
	Call   Call // with its transcript
	Format string
}

// TranscriptFile returns the transcript of a call. It fails as Get does, and with transcript_not_found.
func (s *Service) TranscriptFile(ctx context.Context, req TranscriptRequest) (TranscriptFile, error) {
	c, err := s.Get(ctx, IDRequest{req.ID})
	if err == nil && c.Transcript == nil {
		err = fault.New(fault.NotFound, "transcript_not_found", "This call has no transcript")
	}
	return TranscriptFile{c, req.Format}, err
}

// Waveform returns the peaks of a recording. It fails as Get does, and with waveform_not_found.
func (s *Service) Waveform(ctx context.Context, req IDRequest) (Waveform, error) {
	if _, err := s.Version(ctx, req); err != nil {
		return Waveform{}, err
	}
	return s.Waveforms.Find(ctx, req.ID)
}

// RetryRequest restarts a call.
type RetryRequest struct {
	ID       string  `path:"id" json:"-"`
	CallType *string `json:"call_type"`
	Language *string `json:"language"` // ISO 639-1, in any case
}

// Retry makes an ended call pending again. It fails with call_not_found, call_forbidden or call_busy.
func (s *Service) Retry(ctx context.Context, req RetryRequest) (Call, error) {
	return s.Calls.Change(ctx, req.ID, func(c *Call) ([]event.Event, error) {
		if err := checkAccess(ctx, c.AgentID); err != nil {
			return nil, err
		}
		return c.Retry(req.CallType, lower(req.Language), s.Clock.Now())
	})
}

// Cancel ends the work on a call. It fails with call_not_found or call_forbidden.
func (s *Service) Cancel(ctx context.Context, req IDRequest) (Call, error) {
	return s.Calls.Change(ctx, req.ID, func(c *Call) ([]event.Event, error) {
		if err := checkAccess(ctx, c.AgentID); err != nil {
			return nil, err
		}
		return c.Cancel(s.Clock.Now()), nil
	})
}

// Delete deletes a call with its transcript, in any status. A job removes the recording. It fails with call_on_hold.
func (s *Service) Delete(ctx context.Context, req IDRequest) (struct{}, error) {
	return struct{}{}, s.Calls.Remove(ctx, req.ID, func(c *Call) ([]event.Event, error) {
		if err := checkAccess(ctx, c.AgentID); err != nil {
			return nil, err
		}
		return c.Delete(s.Clock.Now()), c.checkHold()
	})
}

// lower returns a text in lower case, in which codes and ids are stored.
func lower(text *string) *string {
	if text == nil {
		return nil
	}
	return new(strings.ToLower(*text))
}
