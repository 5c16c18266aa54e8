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
	Outcome          *string    `json:"outcome"`   // of a completed call: ok, no_speech, too_short, no_recording, partial
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
	Coverage         *float64   `json:"coverage"` // share of the speech that the transcript has, 0 to 1
	Talk             *Talk      `json:"talk"`     // of a completed call whose speakers are known
	Models           CallModels `json:"models"`
	CostUSD          *float64   `json:"cost_usd"` // so far, of the requests whose price is known
	Attempts         int        `json:"attempts"`
	RecordedAt       *time.Time `json:"recorded_at"`
	CreatedAt        time.Time  `json:"created_at"`
	UpdatedAt        time.Time  `json:"updated_at"`
	CompletedAt      *time.Time `json:"completed_at"`
}

// Talk says who talked how much.
type Talk struct {
	AgentRatio       float64 `json:"agent_ratio"`       // share of the speech that is the agent's, 0 to 1
	LongestMonologue float64 `json:"longest_monologue"` // the agent's longest turn, in seconds
	Questions        int     `json:"questions"`         // of the agent
	WordsPerMinute   float64 `json:"words_per_minute"`  // of the agent
	Silence          float64 `json:"silence"`           // seconds in which nobody talks
	Turns            int     `json:"turns"`             // how often one speaker talks until another one does
}

// CallModels are the names of the models that did the work.
type CallModels struct {
	Transcription *string `json:"transcription"`
	Chat          *string `json:"chat"`
}

// AggregateID returns the call's id.
func (c Call) AggregateID() string { return c.CallID }
