package store

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Transcribe is the kind of the jobs that transcribe a call.
const Transcribe job.Kind = "calls.transcribe"

// calls implements call.Store on the tables calls and transcripts.
type calls struct {
	db        *pg.DB
	jobs      *job.Queue
	tel       telemetry.Set
	rows      *table.Table[record]
	summaries *table.Table[record] // without the transcripts, for lists
	searched  *table.Table[record] // summaries for conditions on the text
	erasures  erasures
}

// record is a call as it is stored.
type record struct {
	call.Call
	trace     map[string]string // W3C headers of the upload, so that all later work joins its trace
	errorCode *string           // the three columns of a call.Problem
	message   *string
	retryable *bool
	text      *string // the two columns of a call.Transcript
	segments  []call.Segment
	due       *time.Duration // until the queued job is due
	rewritten bool           // the transcript, or what insights are stored beside it, must be saved
}

// Calls returns the store of calls.
func Calls(db *pg.DB, out *outbox.Outbox, jobs *job.Queue, tel telemetry.Set) call.Store {
	s := &calls{db: db, jobs: jobs, tel: tel, erasures: newErasures(db, out)}
	spec := table.Spec[record]{
		Name:    "calls",
		Columns: columns,
		Order:   table.Newest(func(r record) time.Time { return r.CreatedAt }, func(r record) string { return r.ID }),
		Missing: call.NotFound,
	}
	s.summaries = table.New(db, out, spec)
	searched := spec
	searched.Replan = true
	s.searched = table.New(db, out, searched)
	spec.From = "calls c left join transcripts t on t.call_id = c.id"
	spec.Columns = func(r *record) table.Columns {
		return append(columns(r), table.Joined("t.text", &r.text), table.Joined("t.segments", &r.segments),
			table.Joined("t.insights", &r.Insights.Fields), table.Joined("t.evidence", &r.Insights.Evidence))
	}
	spec.Save, spec.Record, spec.Context = s.save, s.recordChanges, s.traced
	s.rows = table.New(db, out, spec)
	return s
}

func columns(r *record) table.Columns {
	return table.Columns{
		table.Fixed("id", &r.ID), table.Fixed("agent_id", &r.AgentID), table.Col("version", &r.Version), table.Col("status", &r.Status),
		table.Col("outcome", &r.Outcome), table.Col("error_code", &r.errorCode), table.Col("error_message", &r.message),
		table.Col("retryable", &r.retryable), table.Col("progress", &r.Progress), table.Col("step", &r.Step), table.Col("run", &r.Run), table.Col("client_id", &r.Details.ClientID),
		table.Col("lead_id", &r.Details.LeadID), table.Col("call_type", &r.Details.CallType), table.Col("call_tag", &r.Details.CallTag),
		table.Col("language", &r.Details.Language), table.Col("recorded_at", &r.Details.RecordedAt), table.Col("audio_key", &r.Recording.Key),
		table.Fixed("audio_filename", &r.Recording.Filename), table.Fixed("content_type", &r.Recording.ContentType),
		table.Fixed("size_bytes", &r.Recording.SizeBytes), table.Fixed("sha256", &r.Recording.SHA256),
		table.Col("duration_seconds", &r.DurationSeconds), table.Col("given_title", &r.Details.Title), table.Col("notes", &r.Details.Notes), table.Col("title", &r.Insights.Title), table.Col("summary", &r.Insights.Summary),
		table.Col("action_items", &r.Insights.ActionItems), table.Col("sentiment", &r.Insights.Sentiment),
		table.Col("key_topics", &r.Insights.KeyTopics), table.Col("next_step", &r.Insights.NextStep),
		table.Col("intent_category", &r.Insights.IntentCategory), table.Col("intent_confidence", &r.Insights.IntentConfidence),
		table.Col("interest_level", &r.Insights.InterestLevel), table.Col("objections", &r.Insights.Objections),
		table.Col("callback_time", &r.Insights.CallbackTime), table.Col("transcription_model", &r.Models.Transcription),
		table.Col("chat_model", &r.Models.Chat), table.Col("pabbly_sent", &r.PabblySent), table.Col("coverage", &r.Coverage), table.Col("transcript_outdated", &r.Outdated), table.Col("speakers", &r.Speakers), table.Col("talk", &r.Talk),
		table.Fixed("cost_usd", &r.CostUSD), table.Col("waiting_since", &r.WaitingSince), table.Fixed("created_at", &r.CreatedAt), table.Col("updated_at", &r.UpdatedAt),
		table.Col("completed_at", &r.CompletedAt), table.Col("legal_hold", &r.LegalHold), table.Col("lease_epoch", &r.Lease.Epoch), table.Col("lease_holder", &r.Lease.Holder),
		table.Remaining("lease_until", &r.Lease.Left), table.Col("lease_attempts", &r.Lease.Attempts),
		table.Col("lease_failures", &r.Lease.Failures), table.Remaining("due_at", &r.due), table.Fixed("trace", &r.trace),
	}
}

// domain returns the call, including the values that the tables store in several columns.
func (r record) domain() call.Call {
	c := r.Call
	if r.errorCode != nil {
		c.Problem = &call.Problem{Code: *r.errorCode, Message: *r.message, Retryable: *r.retryable}
	}
	if r.text != nil {
		c.Transcript = &call.Transcript{Text: *r.text, Segments: r.segments}
	}
	return c
}

// set sets r to a call that the domain has created or changed.
func (r *record) set(c call.Call) {
	r.Call = c
	if c.Lease.Job != nil {
		r.due = &c.Lease.Job.In
	}
	r.errorCode, r.message, r.retryable = nil, nil, nil
	if p := c.Problem; p != nil {
		r.errorCode, r.message, r.retryable = &p.Code, &p.Message, &p.Retryable
	}
	r.text, r.segments = nil, nil
	if t := c.Transcript; t != nil {
		r.text, r.segments = &t.Text, t.Segments
	}
}

// edit lets fn change the call.
func (r *record) edit(fn func(*call.Call) ([]event.Event, error)) ([]event.Event, error) {
	c := r.domain()
	transcript, status := c.Transcript, c.Status
	events, err := fn(&c)
	r.set(c)
	r.rewritten = c.Transcript != transcript || c.Status != status
	return events, err
}

// Create writes a new call with its events and its job.
func (s *calls) Create(ctx context.Context, c call.Call, events ...event.Event) error {
	r := record{trace: s.tel.Inject(ctx)}
	r.set(c)
	return s.db.InTx(ctx, func(ctx context.Context) error {
		if err := s.lockParties(ctx, c.Details.ClientID, c.Details.LeadID); err != nil {
			return err
		}
		_, err := s.rows.Create(ctx, &r, "", events...)
		return err
	})
}

// CreateUnique creates a call unless the agent has one of the same recording since then.
func (s *calls) CreateUnique(ctx context.Context, c call.Call, since time.Time, events ...event.Event) (found call.Call, created bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		// Of two uploads at the same time, the second waits until the first has created its call.
		_, err := s.db.Conn(ctx).Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('recording ' || current_schema() || $1, 0))`, c.AgentID+c.Recording.SHA256)
		if err != nil {
			return fmt.Errorf("lock the recordings with a content: %w", pg.Classify(err))
		}
		var w table.Where
		w.And("agent_id = ?", c.AgentID)
		w.And("sha256 = ?", c.Recording.SHA256)
		w.And("created_at > ?", since)
		r, ok, err := first(s.rows.Query(ctx, w, "order by created_at desc, id desc limit 1"))
		if err != nil || ok {
			found, created = r.domain(), false
			return err
		}
		found, created = c, true
		return s.Create(ctx, c, events...)
	})
	return found, created, err
}

// lockParties prevents the deletion of a call's client and lead until the transaction ends: their erasure must find the call.
func (s *calls) lockParties(ctx context.Context, clientID, leadID *string) error {
	if err := s.lockParty(ctx, `select deleted from clients where id = $1 for share`, clientID, call.ClientNotFound); err != nil {
		return err
	}
	return s.lockParty(ctx, `select deleted from leads where id = $1 for share`, leadID, call.LeadNotFound)
}

func (s *calls) lockParty(ctx context.Context, query string, id *string, notFound func() error) error {
	if id == nil {
		return nil
	}
	deleted := false
	err := s.db.Conn(ctx).QueryRow(ctx, query, id).Scan(&deleted)
	switch {
	case pg.NoRows(err):
		return nil
	case err != nil:
		return fmt.Errorf("lock the client or lead %s: %w", *id, pg.Classify(err))
	case deleted:
		return notFound()
	}
	return nil
}

// CreateOnce writes a new call unless there is, or was, one with its id.
func (s *calls) CreateOnce(ctx context.Context, c call.Call, events ...event.Event) error {
	r := record{trace: s.tel.Inject(ctx)}
	r.set(c)
	return s.db.InTx(ctx, func(ctx context.Context) error {
		tag, err := s.db.Conn(ctx).Exec(ctx, `insert into written (id) values ($1) on conflict do nothing`, c.ID)
		if err != nil {
			return fmt.Errorf("note that call %s was written: %w", c.ID, pg.Classify(err))
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
		_, err = s.rows.Create(ctx, &r, "on conflict (id) do nothing", events...) // it may be older than the table
		return err
	})
}

// Find reads a call with its transcript.
func (s *calls) Find(ctx context.Context, id string) (call.Call, error) {
	r, err := s.rows.Find(ctx, id)
	return r.domain(), err
}

// List reads calls without their transcripts.
func (s *calls) List(ctx context.Context, f call.Filter) (page.Of[call.Call], error) {
	if f.Text != "" {
		return s.search(ctx, f)
	}
	found, err := s.summaries.List(ctx, where(f), f.Request)
	return page.Map(found, record.domain), err
}

// where returns the conditions of a filter except its text.
func where(f call.Filter) (w table.Where) {
	w.If(f.AgentID != "", "agent_id = ?", f.AgentID)
	w.If(f.IDs != nil, "id = any(?::uuid[])", f.IDs)
	w.If(f.Status != "", "status = ?", f.Status)
	w.If(f.ClientID != "", "client_id = ?", f.ClientID)
	w.If(f.LeadID != "", "lead_id = ?", f.LeadID)
	w.If(f.CallType != "", "call_type = ?", f.CallType)
	w.If(f.Sentiment != "", "sentiment = ?", f.Sentiment)
	w.If(f.Outcome != "", "outcome = ?", f.Outcome)
	w.If(f.HasRecording, "audio_key <> ''")
	w.If(f.HasTranscript, "exists (select from transcripts where call_id = id)")
	w.If(f.Ended, "status in ('completed', 'failed')")
	w.If(f.NotOnHold, "not legal_hold")
	w.If(f.From != nil, "created_at >= ?", f.From)
	w.If(f.To != nil, "created_at < ?", f.To)
	return w
}

// Change changes a call under its lock.
func (s *calls) Change(ctx context.Context, id string, fn func(*call.Call) ([]event.Event, error)) (call.Call, error) {
	r, err := s.rows.Change(ctx, id, func(r *record) ([]event.Event, error) { return r.edit(fn) })
	return r.domain(), err
}

// ChangeParties is Change for a change of the client or lead. Everywhere the client or lead is locked before the call.
func (s *calls) ChangeParties(ctx context.Context, id string, to call.Parties, fn func(*call.Call) ([]event.Event, error)) (c call.Call, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) (err error) {
		if err := s.lockParties(ctx, to.ClientID, to.LeadID); err != nil {
			return err
		}
		c, err = s.Change(ctx, id, fn)
		return err
	})
	return c, err
}

// Remove deletes a call and its transcript, and inserts the erasure of its recording with its job.
func (s *calls) Remove(ctx context.Context, id string, fn func(*call.Call) ([]event.Event, error)) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		return s.rows.Remove(ctx, id, func(r *record) ([]event.Event, error) {
			events, err := r.edit(fn)
			if err != nil {
				return nil, err
			}
			if r.Recording.Key == "" {
				return events, nil
			}
			if err := s.insertErasure(ctx, call.Erasure{ID: r.ID, AudioKey: r.Recording.Key}); err != nil {
				return nil, err
			}
			return events, s.erasures.assign(ctx, r.ID, r.Details)
		})
	})
}

func (s *calls) insertErasure(ctx context.Context, e call.Erasure) error {
	if _, err := s.erasures.Create(ctx, &e, ""); err != nil {
		return err
	}
	return s.jobs.Insert(ctx, Erase, e.ID, lease.New())
}

// save writes the transcript and the search index of a changed call, and inserts the job that it requests.
func (s *calls) save(ctx context.Context, before, after *record) error {
	if err := s.saveTranscript(ctx, after); err != nil {
		return fmt.Errorf("save the transcript of call %s: %w", after.ID, err)
	}
	if before != nil && (after.rewritten || before.searched() != after.searched()) {
		if err := s.saveSearch(ctx, after); err != nil {
			return fmt.Errorf("make call %s searchable: %w", after.ID, err)
		}
	}
	if before != nil && before.Recording.Key != "" && after.Recording.Key == "" {
		if err := s.insertErasure(ctx, call.Erasure{ID: after.ID, AudioKey: before.Recording.Key}); err != nil {
			return fmt.Errorf("remove the recording of call %s: %w", after.ID, err)
		}
	}
	if before != nil && after.Status == call.Completed && before.Status != call.Completed {
		if err := s.forgetAnswers(ctx, after.ID); err != nil {
			return fmt.Errorf("remove the raw answers of call %s: %w", after.ID, err)
		}
	}
	if before != nil && before.Lease.Holder == nil && after.Lease.Holder != nil {
		if err := s.recordServed(ctx, after.AgentID); err != nil {
			return fmt.Errorf("save when agent %s was served: %w", after.AgentID, err)
		}
	}
	if err := s.recordAudio(ctx, before, after); err != nil {
		return fmt.Errorf("record the audio of call %s: %w", after.ID, err)
	}
	return s.jobs.Insert(ctx, Transcribe, after.ID, after.Lease)
}

// recordServed records that an agent's call was begun.
func (s *calls) recordServed(ctx context.Context, agentID string) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `
		insert into turns (agent_id, served_at) values ($1, clock_timestamp()) on conflict (agent_id) do update set served_at = excluded.served_at`, agentID)
	return err
}

func (s *calls) saveTranscript(ctx context.Context, r *record) (err error) {
	switch {
	case !r.rewritten:
	case r.text == nil:
		_, err = s.db.Conn(ctx).Exec(ctx, `delete from transcripts where call_id = $1`, r.ID)
	default:
		_, err = s.db.Conn(ctx).Exec(ctx, `
			insert into transcripts (call_id, text, segments, insights, evidence) values ($1, $2, $3, $4, $5)
			on conflict (call_id) do update set text = excluded.text, segments = excluded.segments, insights = excluded.insights, evidence = excluded.evidence`,
			r.ID, *r.text, r.segments, r.Insights.Fields, r.Insights.Evidence)
	}
	return err
}

// forgetAnswers removes the raw answers of a completed call: its transcript and insights have what was in them, and retention and
// corrections apply to those alone.
func (s *calls) forgetAnswers(ctx context.Context, id string) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `update steps set answer = null where call_id = $1 and answer is not null`, id)
	return err
}

// traced returns ctx with the trace of the upload if it has none.
func (s *calls) traced(ctx context.Context, r *record) context.Context {
	if telemetry.TraceID(ctx) != "" {
		return ctx
	}
	return s.tel.Extract(ctx, r.trace)
}
