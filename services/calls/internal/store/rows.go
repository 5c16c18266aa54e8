package store

import (
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// columns are those of a call that a list shows, in the order of the table. The fields of row have the same names.
const columns = `id agent_id version status outcome error_code error_message retryable progress attempts
	client_id lead_id call_type call_tag language recorded_at
	audio_key audio_filename content_type size_bytes sha256 duration_seconds
	title summary action_items sentiment key_topics next_step intent_category intent_confidence interest_level objections callback_time
	transcription_model chat_model created_at updated_at completed_at
	lease_epoch lease_until lease_held lease_failures`

// statements are those that name every column.
type statements struct{ selected, insert, update string }

func newStatements() statements {
	names := strings.Fields(columns)
	list, placeholders := strings.Join(names, ", "), "@"+strings.Join(names, ", @")
	return statements{
		selected: "c." + strings.Join(names, ", c."),
		insert:   "insert into calls (" + list + ", trace) values (" + placeholders + ", @trace)",
		update:   "update calls set (" + list + ", search) = (" + placeholders + ", " + search + ") where id = @id",
	}
}

// search is what can be found of a completed call. A tsvector holds a megabyte at most.
const search = `case when @status = 'completed' then to_tsvector('simple', left(concat_ws(' ', @title::text, @summary::text,
	(select text from transcripts where call_id = @id)), 300000)) end`

type row struct {
	ID, AgentID        string
	Version            int64
	Status             string
	Outcome            *string
	ErrorCode          *string
	ErrorMessage       *string
	Retryable          *bool
	Progress           float64
	Attempts           int
	ClientID           *string
	LeadID             *string
	CallType           string
	CallTag            *string
	Language           *string
	RecordedAt         *time.Time
	AudioKey           string
	AudioFilename      *string
	ContentType        string
	SizeBytes          int64
	SHA256             string `db:"sha256"`
	DurationSeconds    *float64
	Title              *string
	Summary            *string
	ActionItems        []string
	Sentiment          *string
	KeyTopics          []string
	NextStep           *string
	IntentCategory     *string
	IntentConfidence   *float64
	InterestLevel      *string
	Objections         []string
	CallbackTime       *time.Time
	TranscriptionModel *string
	ChatModel          *string
	CreatedAt          time.Time
	UpdatedAt          time.Time
	CompletedAt        *time.Time
	LeaseEpoch         int64
	LeaseUntil         *time.Time
	LeaseHeld          bool
	LeaseFailures      int
}

type fullRow struct {
	row
	Trace      map[string]string
	Transcript *string
	Segments   []call.Segment
}

func (r row) call() call.Call {
	c := call.Call{
		ID: r.ID, AgentID: r.AgentID, Version: r.Version, Status: call.Status(r.Status), Outcome: r.Outcome, Progress: r.Progress, Attempts: r.Attempts,
		Details:         call.Details{ClientID: r.ClientID, LeadID: r.LeadID, CallType: r.CallType, CallTag: r.CallTag, Language: r.Language, RecordedAt: r.RecordedAt},
		Recording:       call.Recording{Key: r.AudioKey, Filename: r.AudioFilename, ContentType: r.ContentType, SizeBytes: r.SizeBytes, SHA256: r.SHA256},
		DurationSeconds: r.DurationSeconds,
		Insights: call.Insights{
			Title: r.Title, Summary: r.Summary, ActionItems: r.ActionItems, Sentiment: r.Sentiment, KeyTopics: r.KeyTopics, NextStep: r.NextStep,
			IntentCategory: r.IntentCategory, IntentConfidence: r.IntentConfidence, InterestLevel: r.InterestLevel, Objections: r.Objections, CallbackTime: r.CallbackTime,
		},
		Models:    call.Models{Transcription: r.TranscriptionModel, Chat: r.ChatModel},
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, CompletedAt: r.CompletedAt,
		Lease: call.Lease{Epoch: r.LeaseEpoch, Until: r.LeaseUntil, Held: r.LeaseHeld, Failures: r.LeaseFailures},
	}
	if r.ErrorCode != nil {
		c.Problem = &call.Problem{Code: *r.ErrorCode, Message: *r.ErrorMessage, Retryable: *r.Retryable}
	}
	return c
}

func values(c call.Call) pgx.NamedArgs {
	args := pgx.NamedArgs{
		"id": c.ID, "agent_id": c.AgentID, "version": c.Version, "status": string(c.Status), "outcome": c.Outcome,
		"error_code": nil, "error_message": nil, "retryable": nil, "progress": c.Progress, "attempts": c.Attempts,
		"client_id": c.Details.ClientID, "lead_id": c.Details.LeadID, "call_type": c.Details.CallType, "call_tag": c.Details.CallTag,
		"language": c.Details.Language, "recorded_at": c.Details.RecordedAt,
		"audio_key": c.Recording.Key, "audio_filename": c.Recording.Filename, "content_type": c.Recording.ContentType,
		"size_bytes": c.Recording.SizeBytes, "sha256": c.Recording.SHA256, "duration_seconds": c.DurationSeconds,
		"title": c.Insights.Title, "summary": c.Insights.Summary, "action_items": c.Insights.ActionItems, "sentiment": c.Insights.Sentiment,
		"key_topics": c.Insights.KeyTopics, "next_step": c.Insights.NextStep, "intent_category": c.Insights.IntentCategory,
		"intent_confidence": c.Insights.IntentConfidence, "interest_level": c.Insights.InterestLevel, "objections": c.Insights.Objections,
		"callback_time": c.Insights.CallbackTime, "transcription_model": c.Models.Transcription, "chat_model": c.Models.Chat,
		"created_at": c.CreatedAt, "updated_at": c.UpdatedAt, "completed_at": c.CompletedAt,
		"lease_epoch": c.Lease.Epoch, "lease_until": c.Lease.Until, "lease_held": c.Lease.Held, "lease_failures": c.Lease.Failures,
	}
	if p := c.Problem; p != nil {
		args["error_code"], args["error_message"], args["retryable"] = p.Code, p.Message, p.Retryable
	}
	return args
}
