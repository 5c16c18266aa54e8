// Package call is the life of a recorded sales call: uploaded, transcribed, completed or failed. It decides what a status
// may become, who may see a call, when a lease is lost and when a failure is tried again. It refuses to know where
// recordings lie, who transcribes them and what a database is: those are ports, named here and built by adapters.
package call

import (
	"errors"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
)

// Status is exactly pending → transcribing → completed | failed. A retry by hand goes back to pending.
type Status string

// The statuses.
const (
	Pending      Status = "pending"
	Transcribing Status = "transcribing"
	Completed    Status = "completed"
	Failed       Status = "failed"
)

// Outcomes of a completed call.
const (
	OutcomeOK       = "ok"
	OutcomeNoSpeech = "no_speech"
	OutcomeTooShort = "too_short"
)

// How long a call may go without a sign of life before somebody else takes it over.
const (
	LeaseTime  = 15 * time.Second // of a worker that does not renew its lease
	RenewEvery = 5 * time.Second
	QueueTime  = 30 * time.Second // of a job that nobody begins, doubled each time: a long queue is no reason to hurry
)

// maxAttempts ends a call whose worker dies each time. Failures that a worker lives to record end much earlier.
const maxAttempts = 25

// Progress of a call, 0 to 1, at the ends of its steps.
const (
	progressBegun    = 0.05
	progressPrepared = 0.2
	progressHeard    = 0.7
)

// ErrStale says that a job or a result is not the current one: the call was taken over, ended or removed meanwhile.
var ErrStale = errors.New("the lease of this call belongs to somebody else")

// Call is one recording and what is known about it. Nil is unknown.
type Call struct {
	ID              string
	AgentID         string
	Version         int64 // grows with each change
	Status          Status
	Outcome         *string
	Problem         *Problem // of a failed one
	Progress        float64
	Attempts        int // how often a worker began
	Details         Details
	Recording       Recording
	DurationSeconds *float64 // measured by decoding; before that what the app said
	Transcript      *Transcript
	Insights        Insights
	Models          Models
	CreatedAt       time.Time
	UpdatedAt       time.Time
	CompletedAt     *time.Time
	Lease           Lease
	// Next is when the job that a change asks for is due. The store inserts it in the transaction of the change.
	Next *time.Time `json:"-"`
}

// Details are what the uploader says about a call.
type Details struct {
	ClientID   *string
	LeadID     *string
	CallType   string
	CallTag    *string
	Language   *string // ISO 639-1; the model's finding when the uploader did not say
	RecordedAt *time.Time
}

// Recording is a stored file.
type Recording struct {
	Key         string  // in the bucket
	Filename    *string // of the uploader, without its path
	ContentType string  // decided by the bytes
	SizeBytes   int64
	SHA256      string // hex
}

// Transcript is what was said.
type Transcript struct {
	Text     string
	Segments []Segment // nil when the model gives no times
	Language *string   // ISO 639-1, when the model says; the call keeps it
}

// Segment is one utterance. Times are seconds from the start of the recording.
type Segment struct {
	Start   float64 `json:"start"`
	End     float64 `json:"end"`
	Speaker *string `json:"speaker"`
	Text    string  `json:"text"`
}

// Insights are what a language model made of a transcript.
type Insights struct {
	Title            *string
	Summary          *string
	ActionItems      []string
	Sentiment        *string // positive, neutral, negative
	KeyTopics        []string
	NextStep         *string
	IntentCategory   *string
	IntentConfidence *float64 // 0 to 1
	InterestLevel    *string  // high, medium, low
	Objections       []string
	CallbackTime     *time.Time
	Language         *string // ISO 639-1
}

// Models are the names of what did the work.
type Models struct {
	Transcription *string `json:"transcription"`
	Chat          *string `json:"chat"`
}

// Problem is why a call failed.
type Problem struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"` // whether POST /calls/{id}/retry can help
}

// Lease says who may work on a call. The epoch is the fence: a worker gets a new one when it begins, and nothing that
// carries an older one is accepted any more.
type Lease struct {
	Epoch    int64
	Until    *time.Time // nil when there is nothing to do
	Held     bool       // by a worker; else a job in the queue is waited for
	Failures int        // tries that failed since the call was uploaded or retried by hand
}

// New makes a pending call.
func New(id, agentID string, details Details, duration *float64, recording Recording, now time.Time) (Call, []event.Event) {
	c := Call{
		ID: id, AgentID: agentID, Status: Pending, Details: details, DurationSeconds: duration, Recording: recording,
		CreatedAt: now, Lease: Lease{Epoch: 1},
	}
	c.touch(now)
	c.wait(now, now)
	return c, c.tell(events.CallUploaded, now)
}

// Ended reports whether there is nothing to do.
func (c *Call) Ended() bool { return c.Status == Completed || c.Status == Failed }

// Begin gives the lease to the worker of the job with that epoch, under a new epoch.
func (c *Call) Begin(epoch int64, now time.Time) ([]event.Event, error) {
	if c.Lease.Epoch != epoch || c.Lease.Held || c.Ended() {
		return nil, ErrStale
	}
	c.Lease.Epoch++
	c.Lease.Held = true
	c.Lease.Until = new(now.Add(LeaseTime))
	c.Attempts++
	c.touch(now)
	if c.Status == Transcribing {
		return nil, nil
	}
	c.Status, c.Progress = Transcribing, progressBegun
	return c.tell(events.CallTranscribing, now), nil
}

// Renew is the heartbeat of a worker.
func (c *Call) Renew(epoch int64, now time.Time) error {
	if err := c.held(epoch); err != nil {
		return err
	}
	c.Lease.Until = new(now.Add(LeaseTime))
	return nil
}

// Measured notes how long the recording really is.
func (c *Call) Measured(epoch int64, duration float64, now time.Time) error {
	if err := c.held(epoch); err != nil {
		return err
	}
	c.DurationSeconds, c.Progress = &duration, progressPrepared
	c.touch(now)
	return nil
}

// Heard keeps the transcript, so that nothing that happens later pays for it again.
func (c *Call) Heard(epoch int64, t Transcript, model string, now time.Time) error {
	if err := c.held(epoch); err != nil {
		return err
	}
	if c.Details.Language == nil {
		c.Details.Language = t.Language
	}
	c.Transcript, c.Models.Transcription, c.Progress = &t, &model, progressHeard
	c.touch(now)
	return nil
}

// Result is how a call completes.
type Result struct {
	Outcome  string
	Insights Insights
	Model    *string // that made the insights
}

// Complete ends a call well.
func (c *Call) Complete(epoch int64, r Result, now time.Time) ([]event.Event, error) {
	if err := c.held(epoch); err != nil {
		return nil, err
	}
	c.Status, c.Outcome, c.Insights, c.Models.Chat = Completed, &r.Outcome, r.Insights, r.Model
	if c.Details.Language == nil {
		c.Details.Language = r.Insights.Language
	}
	c.Progress, c.CompletedAt = 1, &now
	c.end(now)
	return c.tell(events.TranscriptionCompleted, now), nil
}

// Fail records what went wrong. While there are waits left a failure that can pass is tried again after the next of them,
// or after as long as the provider asked for; else the call has failed.
func (c *Call) Fail(epoch int64, cause error, waits []time.Duration, now time.Time) ([]event.Event, error) {
	if err := c.held(epoch); err != nil {
		return nil, err
	}
	c.Lease.Failures++
	if wait, again := nextWait(cause, c.Lease.Failures, waits); again {
		c.Lease.Epoch++
		c.touch(now)
		c.wait(now.Add(wait), now)
		return nil, nil
	}
	return c.fail(problemOf(cause), now), nil
}

// HandBack gives the lease up for a worker that has to stop; the work goes on at once where there is another.
func (c *Call) HandBack(epoch int64, now time.Time) error {
	if err := c.held(epoch); err != nil {
		return err
	}
	c.Lease.Epoch++
	c.touch(now)
	c.wait(now, now)
	return nil
}

// Reclaim takes the lease from a worker that gave no sign of life, or asks again for a job that nobody began. A call whose
// lease is good stays as it is.
func (c *Call) Reclaim(now time.Time) []event.Event {
	if c.Ended() || c.Lease.Until == nil || c.Lease.Until.After(now) {
		return nil
	}
	if c.Lease.Held {
		c.Lease.Epoch++
		c.touch(now)
		if c.Attempts >= maxAttempts {
			return c.fail(problemOf(fault.New(fault.Internal, "interrupted", "The work on this recording was interrupted too often")), now)
		}
	}
	// The epoch of a job in the queue stays good: it may come any moment, and keeps its place.
	c.wait(now, now)
	return nil
}

// Retry starts over, with another type or language if they are given. A transcript that exists is kept when only the
// insights failed.
func (c *Call) Retry(callType, language *string, now time.Time) ([]event.Event, error) {
	if !c.Ended() {
		return nil, fault.New(fault.Conflict, "call_busy", "The call is still "+string(c.Status)+": only a completed or failed one can be retried")
	}
	if c.Status == Completed || language != nil {
		c.Transcript, c.Models.Transcription = nil, nil
	}
	if language != nil {
		c.Details.Language = language
	}
	if callType != nil {
		c.Details.CallType = *callType
	}
	c.Status, c.Outcome, c.Problem, c.Progress, c.CompletedAt = Pending, nil, nil, 0, nil
	c.Insights, c.Models.Chat = Insights{}, nil
	c.Attempts, c.Lease.Failures = 0, 0
	c.Lease.Epoch++
	c.touch(now)
	c.wait(now, now)
	return c.tell(events.CallUpdated, now), nil
}

// Deleted is the event of a call that is removed. Nothing that was said is in it.
func (c *Call) Deleted(now time.Time) []event.Event {
	c.Insights, c.Transcript = Insights{}, nil
	c.touch(now)
	return c.tell(events.CallDeleted, now)
}

func (c *Call) held(epoch int64) error {
	if c.Status != Transcribing || !c.Lease.Held || c.Lease.Epoch != epoch {
		return ErrStale
	}
	return nil
}

// wait puts a job into the queue. The longer nothing has happened to the call, the longer its job may take to begin.
func (c *Call) wait(at, now time.Time) {
	c.Lease.Held = false
	c.Lease.Until = new(at.Add(max(QueueTime, now.Sub(c.UpdatedAt))))
	c.Next = &at
}

func (c *Call) fail(p Problem, now time.Time) []event.Event {
	c.Status, c.Problem = Failed, &p
	c.end(now)
	return c.tell(events.TranscriptionFailed, now)
}

func (c *Call) end(now time.Time) {
	c.Lease.Held, c.Lease.Until = false, nil
	c.touch(now)
}

func (c *Call) touch(now time.Time) {
	c.Version++
	c.UpdatedAt = now
}

func (c *Call) tell(t event.Type[events.Call], now time.Time) []event.Event {
	return []event.Event{t.New(now, c.payload())}
}

func (c *Call) payload() events.Call {
	p := events.Call{
		CallID: c.ID, Version: c.Version, AgentID: c.AgentID, ClientID: c.Details.ClientID, LeadID: c.Details.LeadID,
		Title: c.Insights.Title, CallType: c.Details.CallType, CallTag: c.Details.CallTag, Status: string(c.Status), Outcome: c.Outcome,
		DurationSeconds: c.DurationSeconds, Language: c.Details.Language, Summary: c.Insights.Summary, ActionItems: c.Insights.ActionItems,
		Sentiment: c.Insights.Sentiment, KeyTopics: c.Insights.KeyTopics, NextStep: c.Insights.NextStep,
		IntentCategory: c.Insights.IntentCategory, IntentConfidence: c.Insights.IntentConfidence, InterestLevel: c.Insights.InterestLevel,
		Objections: c.Insights.Objections, CallbackTime: c.Insights.CallbackTime, Attempts: c.Attempts,
		RecordedAt: c.Details.RecordedAt, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt, CompletedAt: c.CompletedAt,
	}
	if c.Problem != nil {
		p.ErrorCode, p.Retryable = &c.Problem.Code, &c.Problem.Retryable
	}
	return p
}
