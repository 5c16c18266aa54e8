package call

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
)

// codeNotFound distinguishes a call that does not exist from other faults of that kind.
const codeNotFound = "call_not_found"

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
	Budget         Budget
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

// ListRequest is the query of a list. Empty and nil fields do not filter.
type ListRequest struct {
	Status    string     `query:"status"`
	ClientID  string     `query:"client_id"`
	LeadID    string     `query:"lead_id"`
	Sentiment string     `query:"sentiment"`
	From      *time.Time `query:"from"` // created at this time or later
	To        *time.Time `query:"to"`   // created before this time
	Text      string     `query:"q"`    // words of the transcript, title or summary
	page.Request
}

// List returns a page of the caller's calls, or of all calls for an admin, newest first and without transcripts.
func (s *Service) List(ctx context.Context, req ListRequest) (page.Of[Call], error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return page.Of[Call]{}, err
	}
	return s.Calls.List(ctx, Filter{AgentID: caller.Scope(), ListRequest: req})
}

// Audio is an open recording with its call.
type Audio struct {
	Call    Call
	Content io.ReadSeekCloser
}

// Audio opens the recording of a call; the caller closes it. It fails as Get does, and with audio_not_found.
func (s *Service) Audio(ctx context.Context, req IDRequest) (Audio, error) {
	c, err := s.Get(ctx, req)
	if err != nil {
		return Audio{}, err
	}
	if c.Recording.Key == "" {
		return Audio{}, fault.New(fault.NotFound, "audio_not_found", "This call has no recording")
	}
	content, err := s.Recordings.Open(ctx, c.Recording.Key)
	return Audio{c, content}, err
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

// Delete deletes a call with its transcript, in any status. A job removes the recording.
func (s *Service) Delete(ctx context.Context, req IDRequest) (struct{}, error) {
	return struct{}{}, s.Calls.Remove(ctx, req.ID, func(c *Call) ([]event.Event, error) {
		if err := checkAccess(ctx, c.AgentID); err != nil {
			return nil, err
		}
		return c.Delete(s.Clock.Now()), nil
	})
}

// lower returns a text in lower case, in which codes and ids are stored.
func lower(text *string) *string {
	if text == nil {
		return nil
	}
	return new(strings.ToLower(*text))
}
