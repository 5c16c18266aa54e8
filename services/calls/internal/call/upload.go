package call

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/text"
)

const maxFilename = 255 // characters

// UploadRequest is an uploaded recording and what the uploader says about it. The fields are validated against the contract.
type UploadRequest struct {
	Parties
	Force           bool       `json:"force"` // create a call although there is one of the same recording
	DurationSeconds *float64   `json:"duration_seconds"`
	CallType        string     `json:"call_type"`
	CallTag         string     `json:"call_tag"`
	Language        *string    `json:"language"` // ISO 639-1, in any case
	RecordedAt      *time.Time `json:"recorded_at"`
	Recording       Recording  `json:"-"` // stored by StoreRecording
}

// prefixOf returns the prefix of the keys of a month's recordings.
func prefixOf(t time.Time) string { return t.Format("2006/01/") }

// readyTimeout limits the check of the database before an upload.
const readyTimeout = 3 * time.Second

// ReadyToUpload fails with Unavailable while the database does not respond, so that no recording is received that could not be saved,
// and with quota_exceeded.
func (s *Service) ReadyToUpload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := s.Database.Ping(ctx); err != nil {
		return fault.Wrap(err, fault.Unavailable, "database_unavailable", "The database is not available right now, try again").After(time.Second)
	}
	return s.checkQuotas(ctx)
}

// StoreRecording streams the recording of an upload into the bucket. The fingerprint identifies its content.
func (s *Service) StoreRecording(ctx context.Context, req *UploadRequest, filename string, content io.Reader) (fingerprint string, err error) {
	// The call gets the same id, so that Sweep finds the call of a file.
	key := prefixOf(s.Clock.Now()) + event.NewID()
	if req.Recording, err = s.Recordings.Store(ctx, key, content); err != nil {
		return "", err
	}
	req.Recording.Key, req.Recording.Filename = key, fileName(filename, req.Recording.ContentType)
	return req.Recording.SHA256, nil
}

// DiscardRecording removes the recording of an upload that was refused.
func (s *Service) DiscardRecording(ctx context.Context, req UploadRequest) error {
	if err := s.Recordings.Remove(ctx, req.Recording.Key); err != nil {
		return fmt.Errorf("remove the recording of a refused upload: %w", err)
	}
	return nil
}

// EnsureUpload is EnsureParties for an upload.
func (s *Service) EnsureUpload(ctx context.Context, req UploadRequest) error {
	return s.EnsureParties(ctx, req.Parties)
}

// Uploaded is the call of an upload.
type Uploaded struct {
	Call
	Duplicate bool // the call existed: its agent has uploaded the same recording before
}

// sameWithin is how long a recording is recognised. An app uploads again when it has not seen the answer.
const sameWithin = 24 * time.Hour

// Upload creates a pending call of a stored recording, unless the agent has uploaded the same one within a day. It fails with
// client_not_found, client_forbidden, lead_not_found or lead_forbidden.
func (s *Service) Upload(ctx context.Context, req UploadRequest) (Uploaded, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Uploaded{}, err
	}
	now := s.Clock.Now()
	details := req.details(now)
	if details.ClientID, details.LeadID, err = s.parties(ctx, caller, req.Parties); err != nil {
		return Uploaded{}, err
	}
	c, events := New(path.Base(req.Recording.Key), caller.AgentID, details, req.DurationSeconds, req.Recording, now)
	if req.Force {
		return Uploaded{Call: c}, s.Calls.Create(ctx, c, events...)
	}
	found, created, err := s.Calls.CreateUnique(ctx, c, now.Add(-sameWithin), events...)
	return Uploaded{found, !created}, err
}

func (r UploadRequest) details(now time.Time) Details {
	return Details{
		CallType: cmp.Or(r.CallType, defaultType), CallTag: cmp.Or(r.CallTag, defaultTag), Language: lower(r.Language), RecordedAt: recordedAt(r.RecordedAt, now),
	}
}

func recordedAt(sent *time.Time, now time.Time) time.Time {
	if sent == nil {
		return now
	}
	return sent.UTC().Truncate(time.Microsecond)
}

// extensions are the usual extensions of each accepted content type. The first one is given to a file that has none of them.
var extensions = map[string][]string{
	"audio/mpeg": {"mp3", "mpga", "mp2", "mpeg"}, "audio/mp4": {"m4a", "mp4", "m4b", "m4v"}, "audio/3gpp": {"3gp", "3gpp", "3g2"}, "audio/webm": {"webm", "weba"},
	"audio/ogg": {"ogg", "oga", "opus", "spx"}, "audio/wav": {"wav", "wave"}, "audio/flac": {"flac"}, "audio/aac": {"aac"}, "audio/amr": {"amr"},
	"video/mpeg": {"mpeg", "mpg", "mpga"},
}

// fileName returns the uploader's name of a file, without its path and characters that are invisible or change the direction of the
// text, and with an extension of its content: what is downloaded as invoice.exe may not be started. It is nil if no name is left.
func fileName(name, contentType string) *string {
	name = strings.Trim(text.Name(name[strings.LastIndexAny(name, `/\`)+1:]), " .")
	if name == "" {
		return nil
	}
	usual := extensions[contentType]
	if len(usual) == 0 {
		return new(text.First(name, maxFilename))
	}
	extension := strings.TrimPrefix(path.Ext(name), ".")
	stem := strings.TrimSuffix(name, "."+extension)
	switch {
	case slices.Contains(usual, strings.ToLower(extension)): // as it is
	case isExtension(extension) && strings.Trim(stem, " .") != "":
		extension = usual[0]
	default:
		stem, extension = name, usual[0]
	}
	return new(text.First(stem, maxFilename-1-len(extension)) + "." + extension)
}

// isExtension distinguishes an extension from the end of a name such as "call of 12.05. with Maria".
func isExtension(s string) bool {
	letters := 0
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
			letters++
		case r < '0' || r > '9':
			return false
		}
	}
	return letters > 0 && len(s) <= 5
}
