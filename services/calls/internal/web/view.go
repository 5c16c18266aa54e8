package web

import (
	"math"
	"time"

	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// summary is a call in a list.
type summary struct {
	ID               string        `json:"id"`
	AgentID          string        `json:"agent_id"`
	ClientID         *string       `json:"client_id"`
	LeadID           *string       `json:"lead_id"`
	Title            *string       `json:"title"`
	CallType         string        `json:"call_type"`
	CallTag          string        `json:"call_tag"`
	Status           call.Status   `json:"status"`
	Error            *call.Problem `json:"error"`
	Outcome          *string       `json:"outcome"`
	Coverage         *float64      `json:"coverage"`
	Progress         float64       `json:"progress"`
	Step             *string       `json:"step"`
	AudioFilename    *string       `json:"audio_filename"`
	AudioURL         *string       `json:"audio_url"`    // null without a recording
	ContentType      *string       `json:"content_type"` // null without a recording
	SizeBytes        int64         `json:"size_bytes"`
	Notes            *string       `json:"notes"`
	DurationSeconds  *int          `json:"duration_seconds"` // whole seconds, as apps show them
	Language         *string       `json:"language"`
	Summary          *string       `json:"summary"`
	ActionItems      []string      `json:"action_items"`
	Sentiment        *string       `json:"sentiment"`
	KeyTopics        []string      `json:"key_topics"`
	NextStep         *string       `json:"next_step"`
	IntentCategory   *string       `json:"intent_category"`
	IntentConfidence *float64      `json:"intent_confidence"`
	InterestLevel    *string       `json:"interest_level"`
	Objections       []string      `json:"objections"`
	CallbackTime     *time.Time    `json:"callback_time"`
	Attempts         int           `json:"attempts"`
	Models           call.Models   `json:"models"`
	CostUSD          *float64      `json:"cost_usd"`
	PabblySent       bool          `json:"pabbly_sent"`
	Speakers         speakers      `json:"speakers"`
	Talk             *call.Talk    `json:"talk"`
	RecordedAt       time.Time     `json:"recorded_at"`
	CreatedAt        time.Time     `json:"created_at"`
	UpdatedAt        time.Time     `json:"updated_at"`
	LegalHold        bool          `json:"legal_hold"`
	CompletedAt      *time.Time    `json:"completed_at"`

	Highlights []call.Highlight `json:"highlights,omitempty"`
}

// full is a single call with all fields.
type full struct {
	summary
	RawTranscript *string         `json:"raw_transcript"`
	Transcription *string         `json:"transcription"` // repeats raw_transcript, for the phone app
	Segments      []call.Segment  `json:"segments"`
	Insights      map[string]any  `json:"insights"` // the fields of the call type
	Evidence      []call.Evidence `json:"evidence"`
}

type speakers = map[string]call.Speaker

// list returns a list that is never null: apps read its length also before there is a transcript.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

// object returns a map that is never null.
func object[T any](fields map[string]T) map[string]T {
	if fields == nil {
		return map[string]T{}
	}
	return fields
}

func summarize(c call.Call) summary {
	in := c.Insights
	var audioURL, contentType *string
	if c.Recording.Key != "" {
		audioURL, contentType = new("/calls/"+c.ID+"/audio"), &c.Recording.ContentType
	}
	return summary{
		ID: c.ID, AgentID: c.AgentID, ClientID: c.Details.ClientID, LeadID: c.Details.LeadID, Title: c.Title(), CallType: c.Details.CallType,
		CallTag: c.Details.CallTag, Status: c.Status, Error: c.Problem, Outcome: c.Outcome, Coverage: c.Coverage, Progress: c.Progress, Step: c.Step,
		Notes: c.Details.Notes, AudioFilename: c.Recording.Filename, AudioURL: audioURL, ContentType: contentType,
		SizeBytes: c.Recording.SizeBytes, DurationSeconds: whole(c.DurationSeconds), Language: c.Details.Language, Summary: in.Summary,
		ActionItems: list(in.ActionItems), Sentiment: in.Sentiment, KeyTopics: list(in.KeyTopics), NextStep: in.NextStep, IntentCategory: in.IntentCategory,
		IntentConfidence: in.IntentConfidence, InterestLevel: in.InterestLevel, Objections: list(in.Objections), CallbackTime: in.CallbackTime,
		Attempts: c.Lease.Attempts, Models: c.Models, CostUSD: c.CostUSD, Speakers: object(c.Speakers), Talk: c.Talk, PabblySent: c.PabblySent, RecordedAt: c.Details.RecordedAt, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt, CompletedAt: c.CompletedAt,
		LegalHold: c.LegalHold, Highlights: c.Highlights,
	}
}

func whole(seconds *float64) *int {
	if seconds == nil {
		return nil
	}
	return new(int(math.Round(*seconds)))
}

func viewSummary(c call.Call) any { return summarize(c) }

// uploaded is the answer to an upload.
type uploaded struct {
	full
	DuplicateOf *string `json:"duplicate_of"` // the id of the call that existed
}

func viewUpload(u call.Uploaded) any {
	v := uploaded{full: viewFull(u.Call)}
	if u.Duplicate {
		v.DuplicateOf = &u.ID
	}
	return v
}

func viewCall(c call.Call) any { return viewFull(c) }

func viewFull(c call.Call) full {
	v := full{summary: summarize(c), Segments: []call.Segment{}, Insights: object(c.Insights.Fields), Evidence: list(c.Insights.Evidence)}
	if c.Transcript != nil {
		v.RawTranscript, v.Transcription, v.Segments = &c.Transcript.Text, &c.Transcript.Text, list(c.Transcript.Segments)
	}
	return v
}
