package events

import (
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// Events of calls about recordings.
var (
	CallUploaded           = event.Type[Call]{Name: "call.uploaded", Topic: CallsTopic}
	CallTranscribing       = event.Type[Call]{Name: "call.transcribing", Topic: CallsTopic}
	TranscriptionCompleted = event.Type[Call]{Name: "transcription.completed", Topic: CallsTopic}
	TranscriptionFailed    = event.Type[Call]{Name: "transcription.failed", Topic: CallsTopic}
	CallUpdated            = event.Type[Call]{Name: "call.updated", Topic: CallsTopic}
	CallDeleted            = event.Type[Call]{Name: "call.deleted", Topic: CallsTopic}
)

// Call is one recording with its insights. It does not include the transcript, which can have megabytes and is available at
// GET /calls/{id}/transcript.
type Call struct {
	CallID           string     `json:"call_id"`
	Version          int64      `json:"version"` // incremented by each change
	AgentID          string     `json:"agent_id"`
	ClientID         *string    `json:"client_id"`
	LeadID           *string    `json:"lead_id"`
	Title            *string    `json:"title"`
	CallType         string     `json:"call_type"` // default, discovery, followup, demo
	CallTag          *string    `json:"call_tag"`  // connected, no_answer, wrong_number
	Status           string     `json:"status"`    // pending, transcribing, completed, failed
	Outcome          *string    `json:"outcome"`   // of a completed call: ok, no_speech, too_short, partial
	ErrorCode        *string    `json:"error_code"`
	Retryable        *bool      `json:"retryable"`
	DurationSeconds  *float64   `json:"duration_seconds"`
	Language         *string    `json:"language"` // ISO 639-1
	Summary          *string    `json:"summary"`
	ActionItems      []string   `json:"action_items"`
	Sentiment        *string    `json:"sentiment"` // positive, neutral, negative
	KeyTopics        []string   `json:"key_topics"`
	NextStep         *string    `json:"next_step"`
	IntentCategory   *string    `json:"intent_category"`
	IntentConfidence *float64   `json:"intent_confidence"` // 0 to 1
	InterestLevel    *string    `json:"interest_level"`    // high, medium, low
	Objections       []string   `json:"objections"`
	CallbackTime     *time.Time `json:"callback_time"`
	Attempts         int        `json:"attempts"`
	RecordedAt       *time.Time `json:"recorded_at"`
	CreatedAt        time.Time  `json:"created_at"`
	UpdatedAt        time.Time  `json:"updated_at"`
	CompletedAt      *time.Time `json:"completed_at"`
}

// AggregateID returns the call's id.
func (c Call) AggregateID() string { return c.CallID }
