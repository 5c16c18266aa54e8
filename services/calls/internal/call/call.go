// Package call owns recorded sales calls from the upload to the insights. It decides which status transitions are legal, who
// may see a call and which failures are retried. It refuses to know where recordings are stored, who transcribes them and which
// database there is: those are ports, declared here and implemented by adapters.
package call

import (
	"cmp"
	"maps"
	"reflect"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
)

// Status is exactly pending → transcribing → completed | failed. A manual retry resets it to pending.
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
	// OutcomePartial is the outcome of a call whose transcript lacks some of the speech; its coverage says how much there is.
	OutcomePartial = "partial"
	// OutcomeNoRecording is the outcome of a call that nobody answered, or that was written by hand.
	OutcomeNoRecording = "no_recording"
)

// Defaults of fields that an uploader omits.
const (
	defaultType = "default"
	defaultTag  = "connected"
	tagNoAnswer = "no_answer"
)

// maxAttempts limits the attempts of a call whose worker dies each time. Failures that a worker records end it much earlier.
const maxAttempts = 25

// Steps of the work on a call, as people see them.
const (
	StepWaiting    = "waiting" // for a provider that takes no requests right now
	StepPrepare    = "prepare"
	StepTranscribe = "transcribe"
	StepAnalyse    = "analyse"
)

// Progress of a call, 0 to 1, at the end of each step.
const (
	progressBegun       = 0.05
	progressPrepared    = 0.2
	progressTranscribed = 0.7
)

// Call is one recording and what is known about it. Nil means unknown.
type Call struct {
	ID              string
	AgentID         string
	Version         int64 // increases with each change that a response shows
	Status          Status
	Outcome         *string
	Problem         *Problem // of a failed one
	Progress        float64
	Step            *string // what is being done; nil before and after the work
	Run             int     // incremented by each retry that transcribes anew
	Details         Details
	Recording       Recording
	DurationSeconds *float64 // measured by decoding; until then the uploader's claim
	Transcript      *Transcript
	Outdated        bool               // the transcript is that of an earlier run, and stays until there is a new one
	Coverage        *float64           // share of the speech that the transcript has, 0 to 1
	Speakers        map[string]Speaker // by the labels of the segments; they survive a retry
	Talk            *Talk
	Insights        Insights
	Models          Models
	PabblySent      bool       // a webhook about it was delivered
	LegalHold       bool       // nothing of it may be removed
	CostUSD         *float64   // of all its requests so far whose price is known; only Steps.End changes it
	WaitingSince    *time.Time // since when a provider takes no requests
	CreatedAt       time.Time
	UpdatedAt       time.Time
	CompletedAt     *time.Time
	Lease           lease.Lease
	Highlights      []Highlight // if a search has found the call
}

// Details are what people say about a call.
type Details struct {
	ClientID   *string
	LeadID     *string
	CallType   string    // default, discovery, followup, demo
	CallTag    string    // connected, no_answer, wrong_number
	Language   *string   // ISO 639-1, lower case; detected by the models if the uploader does not name it
	RecordedAt time.Time // when the call took place
	Title      *string   // that a person gave; it replaces the one that the model finds, also after a retry
	Notes      *string   // of a person
}

// Recording is a stored file.
type Recording struct {
	Key         string  // in the bucket; empty for a call without a recording
	Filename    *string // as uploaded, without its path and with the extension of its content
	ContentType string  // detected from the bytes
	SizeBytes   int64
	SHA256      string // hex
}

// Transcript is the transcribed speech of a call.
type Transcript struct {
	Text     string
	Segments []Segment // nil if the model returns no times
	Language *string   // ISO 639-1, if the model returns one; stored with the call's details
}

// Segment is one utterance. Times are seconds from the start of the recording.
type Segment struct {
	Start   float64 `json:"start"`
	End     float64 `json:"end"`
	Speaker *string `json:"speaker"`
	Text    string  `json:"text"`
}

// Insights are what a language model found in a transcript.
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
	Language         *string        // ISO 639-1
	Fields           map[string]any // those of the call's type
	Evidence         []Evidence
	Dropped          int // values of a response that could not be used; not stored
}

// Evidence is a verbatim quote for something that the insights claim.
type Evidence struct {
	Kind  string  `json:"kind"` // action_item, objection, next_step
	Claim string  `json:"claim"`
	Quote string  `json:"quote"`
	Start float64 `json:"start"` // seconds from the start of the recording
}

// Models are the names of the models that did the work.
type Models struct {
	Transcription *string `json:"transcription"`
	Chat          *string `json:"chat"`
}

// Problem is why a call failed.
type Problem struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"` // whether POST /calls/{id}/retry may succeed
}

// New returns a pending call.
func New(id, agentID string, details Details, duration *float64, recording Recording, now time.Time) (Call, []event.Event) {
	c := Call{
		ID: id, AgentID: agentID, Status: Pending, Run: 1, Details: details, DurationSeconds: duration, Recording: recording,
		CreatedAt: now, Lease: lease.New(),
	}
	c.touch(now)
	return c, c.emit(events.CallUploaded, now)
}

// WithoutRecording returns a completed call that has only details, such as one that nobody answered.
func WithoutRecording(id, agentID string, details Details, now time.Time) (Call, []event.Event) {
	c := Call{
		ID: id, AgentID: agentID, Status: Completed, Outcome: new(OutcomeNoRecording), Progress: 1, Details: details, CreatedAt: now, CompletedAt: &now,
	}
	c.touch(now)
	return c, c.emit(events.CallUploaded, now)
}

// Title returns the title that a person gave, or else the model's.
func (c *Call) Title() *string { return cmp.Or(c.Details.Title, c.Insights.Title) }

// Ended reports whether there is nothing left to do.
func (c *Call) Ended() bool { return c.Status == Completed || c.Status == Failed }

// Begin gives the lease to the worker of the job with that epoch, under a new epoch.
func (c *Call) Begin(epoch int64, holder string, ttl time.Duration, now time.Time) ([]event.Event, error) {
	if c.Ended() {
		return nil, lease.ErrSuperseded
	}
	if err := c.Lease.Begin(epoch, holder, ttl); err != nil {
		return nil, err
	}
	c.Step = new(StepPrepare)
	c.touch(now)
	if c.Status == Transcribing {
		return nil, nil
	}
	c.Status, c.Progress = Transcribing, progressBegun
	return c.emit(events.CallTranscribing, now), nil
}

// SetDuration stores the measured duration in seconds.
func (c *Call) SetDuration(epoch int64, seconds float64, now time.Time) error {
	if err := c.Lease.Check(epoch); err != nil {
		return err
	}
	c.DurationSeconds = &seconds
	c.advance(StepTranscribe, progressPrepared, now)
	return nil
}

// SetTranscribed stores how much of the recording has been transcribed, 0 to 1. The provider takes requests.
func (c *Call) SetTranscribed(epoch int64, share float64, now time.Time) error {
	if err := c.Lease.Check(epoch); err != nil {
		return err
	}
	c.WaitingSince = nil
	c.advance(StepTranscribe, progressPrepared+share*(progressTranscribed-progressPrepared), now)
	return nil
}

// advance never lets the progress decrease: the parts of a recording end in any order.
func (c *Call) advance(step string, progress float64, now time.Time) {
	c.Step, c.Progress = &step, max(c.Progress, progress)
	c.touch(now)
}

// SetTranscript stores the transcript, so that a later failure does not make us pay for it again. coverage is the share of the
// speech that it has. Speakers that have names already keep them.
func (c *Call) SetTranscript(epoch int64, t Transcript, coverage float64, model string, now time.Time) error {
	if err := c.Lease.Check(epoch); err != nil {
		return err
	}
	if c.Details.Language == nil {
		c.Details.Language = t.Language
	}
	c.Transcript, c.Outdated, c.Models.Transcription, c.Coverage, c.WaitingSince = &t, false, &model, &coverage, nil
	c.Speakers = speakersOf(t.Segments, c.Speakers)
	c.advance(StepAnalyse, progressTranscribed, now)
	return nil
}

// transcribed reports whether there is a transcript of this run.
func (c *Call) transcribed() bool { return c.Transcript != nil && !c.Outdated }

// Result is how a call completes.
type Result struct {
	Outcome  string
	Insights Insights
	Talk     *Talk
	Model    *string // that found the insights
}

// Complete ends a call with a result.
func (c *Call) Complete(epoch int64, r Result, now time.Time) ([]event.Event, error) {
	if err := c.Lease.End(epoch); err != nil {
		return nil, err
	}
	c.Status, c.Outcome, c.Insights, c.Talk, c.Models.Chat = Completed, &r.Outcome, r.Insights, r.Talk, r.Model
	if c.Details.Language == nil {
		c.Details.Language = r.Insights.Language
	}
	if c.Outdated { // there was nothing to transcribe this time
		c.Transcript, c.Outdated, c.Coverage = nil, false, nil
	}
	c.Step, c.WaitingSince = nil, nil
	c.Progress, c.CompletedAt = 1, &now
	c.touch(now)
	return c.emit(events.TranscriptionCompleted, now), nil
}

// maxWaiting is how long a call waits for a provider that takes no requests.
const maxWaiting = 24 * time.Hour

// Fail records a failure. A transient one is retried after the next of waits, lengthened by up to a fifth by jitter (0 to 1), or after
// the provider's Retry-After if that is longer. A permanent one, and the one after the last wait, ends the call. A provider that takes
// no requests costs no attempt: the call waits for it, up to a day.
func (c *Call) Fail(epoch int64, cause error, waits []time.Duration, jitter float64, now time.Time) ([]event.Event, error) {
	if limited(cause) && (c.WaitingSince == nil || now.Sub(*c.WaitingSince) < maxWaiting) {
		if err := c.Lease.Defer(epoch, limitedWait(cause, jitter)); err != nil {
			return nil, err
		}
		if c.WaitingSince == nil {
			c.WaitingSince = &now
		}
		c.Step = new(StepWaiting)
		c.touch(now)
		return nil, nil
	}
	wait, again := nextWait(cause, c.Lease.Failures+1, waits, jitter)
	again = again && !limited(cause)
	if err := c.Lease.Fail(epoch, wait, again); err != nil {
		return nil, err
	}
	if again {
		c.touch(now)
		return nil, nil
	}
	return c.fail(problemOf(cause), now), nil
}

// Cancel ends the work on a call, also while a worker or a provider has it. A call that has ended stays as it is.
func (c *Call) Cancel(now time.Time) []event.Event {
	if c.Ended() {
		return nil
	}
	c.Lease.Stop()
	return c.fail(problemOf(fault.New(fault.Conflict, "cancelled", "The transcription was cancelled")), now)
}

// HandBack releases the lease of a worker that must stop, so that another one can continue at once.
func (c *Call) HandBack(epoch int64, now time.Time) error {
	if err := c.Lease.HandBack(epoch); err != nil {
		return err
	}
	c.touch(now)
	return nil
}

// Reclaim takes the call with that epoch from the process that died. A call that was begun maxAttempts times fails. It fails with
// lease.ErrSuperseded if the call has ended, and like lease.Lease.Reclaim.
func (c *Call) Reclaim(epoch int64, now time.Time) ([]event.Event, error) {
	begun := c.Lease.Holder != nil
	if c.Ended() {
		return nil, lease.ErrSuperseded
	}
	if err := c.Lease.Reclaim(epoch); err != nil {
		return nil, err
	}
	switch {
	case !begun: // nothing that an answer shows has changed
		return nil, nil
	case c.Lease.Attempts >= maxAttempts:
		c.Lease.Stop()
		return c.fail(problemOf(interrupted()), now), nil
	default:
		c.touch(now)
		return nil, nil
	}
}

func interrupted() error {
	return fault.New(fault.Internal, CodeInterrupted, "The work on this recording was interrupted too often")
}

// Requeue queues the job of that epoch behind the others.
func (c *Call) Requeue(epoch int64) error {
	if c.Ended() {
		return lease.ErrSuperseded
	}
	return c.Lease.Requeue(epoch)
}

// Retry restarts an ended call with a recording, with another type or language if given. An existing transcript is reused if only the insights
// failed; otherwise it is replaced once there is a new one, which a legal hold forbids.
func (c *Call) Retry(callType, language *string, now time.Time) ([]event.Event, error) {
	if c.Recording.Key == "" {
		return nil, fault.New(fault.Conflict, "call_without_recording", "This call has no recording that could be transcribed")
	}
	if !c.Ended() {
		return nil, fault.New(fault.Conflict, "call_busy", "The call is still "+string(c.Status)+": only a completed or failed one can be retried")
	}
	anew := c.Status == Completed || language != nil
	if anew || c.Outdated {
		if err := c.checkHold(); err != nil {
			return nil, err
		}
	}
	if anew {
		c.Outdated = c.Transcript != nil
		c.Run++
	}
	if language != nil {
		c.Details.Language = language
	}
	if callType != nil {
		c.Details.CallType = *callType
	}
	c.Status, c.Outcome, c.Problem, c.Progress, c.CompletedAt = Pending, nil, nil, 0, nil
	c.Insights, c.Talk, c.Models.Chat, c.Step, c.WaitingSince = Insights{}, nil, nil, nil, nil
	c.Lease.Restart()
	c.touch(now)
	return c.emit(events.CallUpdated, now), nil
}

// edit lets fn change the details and the speakers. It returns no event if they are the same afterwards.
func (c *Call) edit(fn func() error, now time.Time) ([]event.Event, error) {
	details, speakers := c.Details, maps.Clone(c.Speakers)
	if err := fn(); err != nil {
		return nil, err
	}
	renamed := !maps.EqualFunc(speakers, c.Speakers, Speaker.equal)
	if !renamed && reflect.DeepEqual(details, c.Details) {
		return nil, nil
	}
	if renamed && c.Transcript != nil && c.Status == Completed {
		c.Talk = talkOf(c.Transcript.Segments, c.Speakers, c.DurationSeconds)
	}
	c.touch(now)
	return c.emit(events.CallUpdated, now), nil
}

// Delete returns the event of a deleted call. It has no transcript, no insights and nothing that a person wrote.
func (c *Call) Delete(now time.Time) []event.Event {
	c.Insights, c.Transcript, c.Details.Title, c.Details.Notes = Insights{}, nil, nil, nil
	c.touch(now)
	return c.emit(events.CallDeleted, now)
}

// checkHold fails with call_on_hold if nothing of the call may be removed.
func (c *Call) checkHold() error {
	if c.LegalHold {
		return fault.New(fault.Conflict, codeOnHold, "This call is on legal hold: an admin has to lift that first")
	}
	return nil
}

// removeRecording forgets the recording, which a job then removes from the storage. What was found in it remains.
func (c *Call) removeRecording(now time.Time) {
	if c.Recording.Key != "" && c.Ended() && !c.LegalHold {
		c.Recording.Key = ""
		c.touch(now)
	}
}

// removeTranscript removes what was said, the quotes of it, and the fields of the call type, which are close to them. The summary and
// the other insights remain.
func (c *Call) removeTranscript(now time.Time) {
	if c.Transcript != nil && c.Ended() && !c.LegalHold {
		c.Transcript, c.Outdated, c.Insights.Evidence, c.Insights.Fields = nil, false, nil, nil
		c.touch(now)
	}
}

func (c *Call) fail(p Problem, now time.Time) []event.Event {
	c.Status, c.Problem, c.Step, c.WaitingSince = Failed, &p, nil, nil
	c.touch(now)
	return c.emit(events.TranscriptionFailed, now)
}

func (c *Call) touch(now time.Time) {
	c.Version++
	c.UpdatedAt = now
}

func (c *Call) emit(t event.Type[events.Call], now time.Time) []event.Event {
	return []event.Event{t.New(now, c.state())}
}

func (c *Call) state() events.Call {
	p := events.Call{
		CallID: c.ID, Version: c.Version, AgentID: c.AgentID, ClientID: c.Details.ClientID, LeadID: c.Details.LeadID,
		Title: c.Title(), CallType: c.Details.CallType, CallTag: &c.Details.CallTag, Status: string(c.Status), Outcome: c.Outcome,
		DurationSeconds: c.DurationSeconds, Language: c.Details.Language, Summary: c.Insights.Summary, ActionItems: c.Insights.ActionItems,
		Sentiment: c.Insights.Sentiment, KeyTopics: c.Insights.KeyTopics, NextStep: c.Insights.NextStep,
		IntentCategory: c.Insights.IntentCategory, IntentConfidence: c.Insights.IntentConfidence, InterestLevel: c.Insights.InterestLevel,
		Objections: c.Insights.Objections, CallbackTime: c.Insights.CallbackTime, Attempts: c.Lease.Attempts,
		RecordedAt: &c.Details.RecordedAt, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt, CompletedAt: c.CompletedAt,
	}
	p.Coverage, p.Models, p.CostUSD, p.Talk = c.Coverage, events.CallModels(c.Models), c.CostUSD, c.Talk
	if c.Problem != nil {
		p.ErrorCode, p.Retryable = &c.Problem.Code, &c.Problem.Retryable
	}
	return p
}
