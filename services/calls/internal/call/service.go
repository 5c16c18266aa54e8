package call

import (
	"context"
	"fmt"
	"io"
	"path"
	"regexp"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// codeNotFound tells a call that is not there from anything else that is not.
const codeNotFound = "call_not_found"

// NotFound is the fault of a call that does not exist.
func NotFound() error { return fault.New(fault.NotFound, codeNotFound, "Call not found") }

// Service is what agents do with their calls.
type Service struct {
	Store      Store
	Recordings Recordings
	Clients    Clients
	Keeper     Keeper
	Clock      clock.Clock
	OrphanAge  time.Duration // how old a file without a call is when it is removed
}

// GetRequest names a call.
type GetRequest struct {
	ID string `path:"id"`
}

// Get returns a call that the caller may see: call_not_found, call_forbidden.
func (s *Service) Get(ctx context.Context, req GetRequest) (Call, error) {
	c, err := s.Store.Find(ctx, req.ID)
	if err != nil {
		return Call{}, err
	}
	return c, visible(ctx, c)
}

func visible(ctx context.Context, c Call) error {
	caller, err := identity.From(ctx)
	if err != nil {
		return err
	}
	if !caller.MaySee(c.AgentID) {
		return fault.New(fault.Forbidden, "call_forbidden", "This call belongs to another agent")
	}
	return nil
}

// ListRequest chooses calls of the caller; an admin's, of the whole team.
type ListRequest struct {
	Status    string     `query:"status"`
	ClientID  string     `query:"client_id"`
	LeadID    string     `query:"lead_id"`
	Sentiment string     `query:"sentiment"`
	From      *time.Time `query:"from"`
	To        *time.Time `query:"to"`
	Text      string     `query:"q"`
	Limit     int        `query:"limit"`
	Cursor    string     `query:"cursor"`
	Skip      int        `query:"skip"`
}

const defaultLimit = 50

// List returns calls without their transcripts, newest first.
func (s *Service) List(ctx context.Context, req ListRequest) (Page, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Page{}, err
	}
	f := Filter{
		Status: req.Status, ClientID: req.ClientID, LeadID: req.LeadID, Sentiment: req.Sentiment, From: req.From, To: req.To,
		Text: req.Text, Limit: req.Limit, Cursor: req.Cursor, Skip: req.Skip,
	}
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	if !caller.IsAdmin() {
		f.AgentID = caller.AgentID
	}
	return s.Store.List(ctx, f)
}

// Audio is a recording to be played.
type Audio struct {
	Call    Call
	Content io.ReadSeekCloser
}

// Audio opens the recording of a call; close it. Beside what Get returns: audio_not_found.
func (s *Service) Audio(ctx context.Context, req GetRequest) (Audio, error) {
	c, err := s.Get(ctx, req)
	if err != nil {
		return Audio{}, err
	}
	content, err := s.Recordings.Open(ctx, c.Recording.Key)
	return Audio{c, content}, err
}

// RetryRequest starts a call over.
type RetryRequest struct {
	ID       string  `path:"id" json:"-"`
	CallType *string `json:"call_type"`
	Language *string `json:"language"` // ISO 639-1
}

// Retry makes an ended call pending again: call_not_found, call_forbidden, call_busy.
func (s *Service) Retry(ctx context.Context, req RetryRequest) (Call, error) {
	if req.Language != nil && !isLanguage(*req.Language) {
		return Call{}, fault.Fields(wrongLanguage())
	}
	return s.Store.Change(ctx, req.ID, func(c *Call) ([]event.Event, error) {
		if err := visible(ctx, *c); err != nil {
			return nil, err
		}
		return c.Retry(req.CallType, req.Language, s.Clock.Now())
	})
}

// Nothing is the answer of what has none.
type Nothing struct{}

// Delete removes a call with its recording and transcript, whatever its status. The recording goes first: a call whose
// recording is gone can be deleted again, a recording whose call is gone would be forgotten.
func (s *Service) Delete(ctx context.Context, req GetRequest) (Nothing, error) {
	return Nothing{}, s.Store.Remove(ctx, req.ID, func(ctx context.Context, c *Call) ([]event.Event, error) {
		if err := visible(ctx, *c); err != nil {
			return nil, err
		}
		if err := s.Recordings.Remove(ctx, c.Recording.Key); err != nil {
			return nil, fmt.Errorf("remove the recording: %w", err)
		}
		return c.Deleted(s.Clock.Now()), nil
	})
}

// OnClient keeps the copy of a client.
func (s *Service) OnClient(ctx context.Context, e event.Received[events.Client]) error {
	return s.Clients.Keep(ctx, Client{ID: e.Data.ClientID, AgentID: e.Data.AgentID, Version: e.Data.Version})
}

// OnClientDeleted keeps a mark, so that what comes late does not bring the client back.
func (s *Service) OnClientDeleted(ctx context.Context, e event.Received[events.Client]) error {
	return s.Clients.Keep(ctx, Client{ID: e.Data.ClientID, AgentID: e.Data.AgentID, Version: e.Data.Version, Deleted: true})
}

// prefixOf is where the recordings of a month lie.
func prefixOf(t time.Time) string { return t.Format("2006/01/") }

// Sweep removes files of this month and the last that no call has: a process died between storing a recording and writing
// its call. It looks only at names that are its own.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.Clock.Now()
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	for _, prefix := range []string{prefixOf(month.AddDate(0, -1, 0)), prefixOf(month)} {
		err := s.Recordings.List(ctx, prefix, now.Add(-s.OrphanAge), func(keys []string) error { return s.sweep(ctx, keys) })
		if err != nil {
			return fmt.Errorf("sweep %s: %w", prefix, err)
		}
	}
	return nil
}

func (s *Service) sweep(ctx context.Context, keys []string) error {
	// What an upload that was killed leaves behind in a directory has the same name with an ending.
	name := regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(\.[0-9a-f]+\.tmp)?$`)
	ids := map[string]string{} // by key
	var all []string
	for _, key := range keys {
		if parts := name.FindStringSubmatch(path.Base(key)); parts != nil {
			ids[key] = parts[1]
			all = append(all, parts[1])
		}
	}
	if len(all) == 0 {
		return nil
	}
	page, err := s.Store.List(ctx, Filter{IDs: all, Limit: len(all)})
	if err != nil {
		return fmt.Errorf("look for the calls of %d recordings: %w", len(all), err)
	}
	wanted := map[string]bool{}
	for _, c := range page.Calls {
		wanted[c.Recording.Key] = true
	}
	for key := range ids {
		if wanted[key] {
			continue
		}
		if err := s.Recordings.Remove(ctx, key); err != nil {
			return fmt.Errorf("remove %s: %w", key, err)
		}
	}
	return nil
}
