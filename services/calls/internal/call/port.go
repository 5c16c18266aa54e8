package call

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/page"
)

// Store stores calls. A call that does not exist is the fault NotFound. A database that does not respond is Unavailable.
type Store interface {
	// Create stores a new call with its events and its job. It fails with ClientNotFound or LeadNotFound if its client or lead was
	// deleted meanwhile.
	Create(ctx context.Context, c Call, events ...event.Event) error
	// CreateUnique is Create for a recording, unless its agent has a call of the same content that was created since then. It
	// returns the call that there is now. Of two at the same time, one is created.
	CreateUnique(ctx context.Context, c Call, since time.Time, events ...event.Event) (found Call, created bool, err error)
	// CreateOnce is Create for a call that may have been stored before; then it does nothing, also if the call was deleted since.
	CreateOnce(ctx context.Context, c Call, events ...event.Event) error
	// Find reads a call with its transcript.
	Find(ctx context.Context, id string) (Call, error)
	// List reads calls without their transcripts: the newest first, or with Filter.Text those that match, with their highlights and in
	// the order of Filter.Sort.
	List(ctx context.Context, f Filter) (page.Of[Call], error)
	// Change lets fn change the call under a lock, and saves it with the events that fn returns and the job that its lease
	// requests. fn may run more than once.
	Change(ctx context.Context, id string, fn func(*Call) ([]event.Event, error)) (Call, error)
	// ChangeParties is Change for a change of the client or lead to these. It fails like Create if one was deleted meanwhile.
	ChangeParties(ctx context.Context, id string, to Parties, fn func(*Call) ([]event.Event, error)) (Call, error)
	// Remove deletes the call with its transcript and the events that fn returns, and stores an Erasure of its recording with a
	// job. fn runs under the lock and may run more than once.
	Remove(ctx context.Context, id string, fn func(*Call) ([]event.Event, error)) error
}

// Database is what all stores of this package write to.
type Database interface {
	// Ping fails if the database does not respond.
	Ping(ctx context.Context) error
}

// Filter selects a page of calls. Empty and nil fields do not filter.
type Filter struct {
	IDs           []string
	HasRecording  bool
	HasTranscript bool
	Ended         bool
	NotOnHold     bool
	ListRequest
}

// Revisions reads the versions of calls. It is cheap: it loads no transcript.
type Revisions interface {
	// Find returns the fault NotFound for a call that does not exist.
	Find(ctx context.Context, id string) (Revision, error)
}

// Revision is the version of a call, and its agent.
type Revision struct {
	ID      string
	AgentID string
	Version int64
}

// Waveforms reads the peaks of recordings.
type Waveforms interface {
	// Find returns WaveformNotFound for a recording that was not decoded.
	Find(ctx context.Context, callID string) (Waveform, error)
}

// Waveform is the peaks of a recording, at most 16 kB of JSON.
type Waveform struct {
	CallID         string          `json:"-"`
	Channels       int             `json:"channels"`
	PeaksPerSecond float64         `json:"peaks_per_second"`
	Peaks          json.RawMessage `json:"peaks"`
}

// WaveformNotFound is the fault of a recording without peaks.
func WaveformNotFound() error {
	return fault.New(fault.NotFound, "waveform_not_found", "This call has no waveform")
}

// Leases accesses the leases of calls outside of changes. It loads no transcripts.
type Leases interface {
	// Renew extends the lease of that epoch to ttl from now, by the database's clock. It fails with lease.ErrSuperseded.
	Renew(ctx context.Context, id string, epoch int64, ttl time.Duration) error
	// ListLost returns the calls whose process died: up to limit whose leases have expired, the longest expired first, and up to
	// limit whose job a process fetched some time ago and never began.
	ListLost(ctx context.Context, limit int) ([]lease.Ref, error)
	// FindNext returns the call to begin instead of a queued one, if there is one: that of the waiting agent who was served least
	// recently. A queued call that was begun before is never replaced.
	FindNext(ctx context.Context, queued lease.Ref) (next lease.Ref, ok bool, err error)
}

// Erasures stores which recordings of deleted calls must still be removed.
type Erasures interface {
	// Find returns false if the recording has been removed.
	Find(ctx context.Context, id string) (e Erasure, ok bool, err error)
	// List returns up to limit erasures that are older than age, by the database's clock, the oldest first.
	List(ctx context.Context, age time.Duration, limit int) ([]Erasure, error)
	// Remove deletes an erasure that is done. If it was the last one of a request to erase a person, the event that done returns is
	// published.
	Remove(ctx context.Context, id string, done func(events.Erasure) event.Event) error
}

// Erasure is the recording of a deleted call.
type Erasure struct {
	ID       string // of the call
	AudioKey string
}

// Recordings stores the files. None of its methods may be called inside a transaction.
type Recordings interface {
	// Store streams r into key if it is audio of an accepted format. It fails with Invalid and the field if it is not, TooLarge
	// over the limit, Unavailable if the bucket is, and with r's errors unchanged. Then nothing is stored.
	Store(ctx context.Context, key string, r io.Reader) (Recording, error)
	// Open opens a recording, which can be read until ctx ends. It fails with NotFound if there is none.
	Open(ctx context.Context, key string) (io.ReadSeekCloser, error)
	// Remove deletes a recording. It succeeds if there is none.
	Remove(ctx context.Context, key string) error
	// List calls page with the keys under a prefix that were last written before that time, page by page.
	List(ctx context.Context, prefix string, before time.Time, page func(keys []string) error) error
}

// Preparer prepares recordings for transcription.
type Preparer interface {
	// Prepare decodes a recording. It fails with an Invalid fault, with a code of a failed call, if it cannot be decoded.
	Prepare(ctx context.Context, r io.Reader, contentType string) (PreparedAudio, error)
}

// PreparedAudio is decoded speech in temporary files. Close removes them.
type PreparedAudio struct {
	Duration float64 // seconds
	Chunks   []Chunk // in the order of their start; none if the recording is silent
	Peaks    Peaks
	Close    func()
}

// Chunk is a file that a provider accepts. Times are seconds from the start of the recording.
type Chunk struct {
	Path       string
	Start, End float64
	Speaker    *string    // of a channel that has one speaker
	Sound      []Interval // where it is not silent; nil if that is not known
}

// Interval is a part of a recording, in seconds from its start.
type Interval struct{ Start, End float64 }

// Peaks are the loudest samples of a recording, for players.
type Peaks struct {
	Channels  int
	PerSecond float64 // less than 1 for a long recording
	Values    []int   // 0 to 100; the channels of an interval are next to each other. As JSON they have at most 16 kB
}

// Transcriber converts speech to text. Send and Read are apart so that the raw answer is stored before anything reads it. The
// faults of both have the codes of a failed call, and a kind that says whether they are transient.
type Transcriber interface {
	// Model names the model that Send asks.
	Model() string
	// Ready fails with Limited while the provider takes no requests.
	Ready() error
	// Send sends a chunk. key identifies the request for providers that recognize a repeated one. An error that wraps ErrNoAnswer
	// leaves open whether the provider has done the work. It must not be called inside a transaction.
	Send(ctx context.Context, chunk Chunk, language *string, key string) (Answer, error)
	// Read returns the transcript in an answer, with times from the start of its chunk. It can be stored: it is clean and of bounded
	// length.
	Read(answer []byte) (Transcript, error)
}

// Analyst finds insights in a transcript. It is like a Transcriber.
type Analyst interface {
	Model() string
	Ready() error
	Send(ctx context.Context, q Question, key string) (Answer, error)
	// Read also returns the name of the model that answered.
	Read(answer []byte, q Question) (in Insights, model string, err error)
}

// Answer is a raw response of a provider.
type Answer struct {
	Body  []byte
	Model string // that answered
	Usage Usage
}

// Usage is what an answer cost.
type Usage struct {
	Seconds      float64 // of audio
	InputTokens  int64
	OutputTokens int64
	CostUSD      *float64 // nil if the price is not known
}

// Question is the input of an analyst.
type Question struct {
	Transcript string
	CallType   string
	At         time.Time // of the call, to resolve "next Tuesday"
	Problem    string    // why an earlier answer to the question could not be used; empty for the first one
}
