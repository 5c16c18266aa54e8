package call

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// Store keeps calls. Whatever it does takes part in the transaction of ctx.
type Store interface {
	// Create writes a new call, its events and its job.
	Create(ctx context.Context, c Call, events []event.Event) error
	// Find reads a call with its transcript. It returns not found (fault.NotFound) if there is none.
	Find(ctx context.Context, id string) (Call, error)
	// List reads calls without their transcripts, newest first.
	List(ctx context.Context, f Filter) (Page, error)
	// Change loads a call under lock, lets fn change it, and saves it with the events and the job that fn asks for, all or
	// nothing. It returns the changed call. fn may run more than once.
	Change(ctx context.Context, id string, fn func(*Call) ([]event.Event, error)) (Call, error)
	// Remove deletes a call and publishes the events that fn returns. fn runs under the lock, before the deletion.
	Remove(ctx context.Context, id string, fn func(context.Context, *Call) ([]event.Event, error)) error
}

// Filter chooses calls. Zero values choose all.
type Filter struct {
	AgentID     string
	IDs         []string
	Status      string
	ClientID    string
	LeadID      string
	Sentiment   string
	From, To    *time.Time // created at, from inclusive, to exclusive
	Text        string     // words of the transcript, title or summary
	LeaseBefore *time.Time // whose lease or wait is over
	Limit       int
	Cursor      string
	Skip        int
}

// Page is a part of a list. Next is the cursor of the next page, empty on the last.
type Page struct {
	Calls []Call
	Next  string
}

// Recordings keeps the files.
type Recordings interface {
	// Store keeps what r has under key if it is audio of an accepted format. It returns Invalid (with the field) if it is
	// not, TooLarge over the limit, Unavailable when the bucket is, and errors of r as they are; then nothing is kept.
	Store(ctx context.Context, key string, r io.Reader) (Recording, error)
	// Open reads a recording for as long as ctx lives. It returns NotFound if there is none.
	Open(ctx context.Context, key string) (io.ReadSeekCloser, error)
	// Remove deletes a recording; one that is not there is no error.
	Remove(ctx context.Context, key string) error
	// List gives page the keys under a prefix that were last written before that time, some at a time.
	List(ctx context.Context, prefix string, before time.Time, page func(keys []string) error) error
}

// Clients knows whose a client is.
type Clients interface {
	// Owner returns the agent of a client. It returns NotFound if there is no such client and Forbidden if the caller may
	// not see it.
	Owner(ctx context.Context, clientID string) (agentID string, err error)
	// Keep updates the own copy of a client unless it is newer.
	Keep(ctx context.Context, c Client) error
}

// Client is the copy of what crm tells about a client.
type Client struct {
	ID      string
	AgentID string
	Version int64
	Deleted bool
}

// Keeper makes an upload with an Idempotency-Key happen once.
type Keeper interface {
	// Once runs do in a transaction and keeps its answer, or returns the answer that the key got before. It returns
	// Conflict if the key was used with another fingerprint.
	Once(ctx context.Context, operation, key string, fingerprint []byte, do func(context.Context) (json.RawMessage, error)) (json.RawMessage, error)
}

// Form is the parts of an upload in the order in which they arrive.
type Form interface {
	// Next is io.EOF after the last part. What is left of the part before is skipped. A body that is cut, or too large,
	// is a fault, here and when reading the content.
	Next() (Part, error)
}

// Part is one field of a form.
type Part struct {
	Name     string
	Filename string // as the sender calls it
	Content  io.Reader
}

// Listener prepares recordings for transcription.
type Listener interface {
	// Listen decodes a recording. It returns an Invalid fault with one of the codes of a failed call if that is not possible.
	Listen(ctx context.Context, r io.Reader, contentType string) (Sound, error)
}

// Sound is decoded speech in temporary files. Close removes them.
type Sound struct {
	Duration float64 // seconds
	Parts    []SoundPart
	Close    func()
}

// SoundPart is a file that a provider takes.
type SoundPart struct {
	Path  string
	Start float64 // seconds from the start of the recording
}

// Transcriber hears words. Its faults carry the codes of a failed call, and a kind that says whether trying again helps.
type Transcriber interface {
	Transcribe(ctx context.Context, path string, language *string) (t Transcript, model string, err error)
}

// Analyst finds out what a call means. Its faults are like those of a Transcriber.
type Analyst interface {
	Analyse(ctx context.Context, q Question) (in Insights, model string, err error)
}

// Question is what an analyst gets to know.
type Question struct {
	Transcript string
	CallType   string
	At         time.Time // of the call, so that "next Tuesday" means a day
}
