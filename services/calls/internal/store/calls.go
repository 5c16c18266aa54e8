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
	spec.From = "calls c left join transcripts t on t.call_id = c.id"
	spec.Columns = func(r *record) table.Columns {
		return append(columns(r), table.Joined("t.text", &r.text), table.Joined("t.segments", &r.segments),
			table.Joined("t.insights", &r.Insights.Fields), table.Joined("t.evidence", &r.Insights.Evidence))
	}
	spec.Save, spec.Context = s.save, s.traced
	s.rows = table.New(db, out, spec)
	return s
}

func columns(r *record) table.Columns {
	return table.Columns{
		table.Fixed("id", &r.ID), table.Fixed("agent_id", &r.AgentID), table.Col("version", &r.Version), table.Col("status", &r.Status),
		table.Col("outcome", &r.Outcome), table.Col("error_code", &r.errorCode), table.Col("error_message", &r.message),
		table.Col("retryable", &r.retryable), table.Col("progress", &r.Progress), table.Col("step", &r.Step), table.Col("run", &r.Run), table.Col("client_id", &r.Details.ClientID),
		table.Col("lead_id", &r.Details.LeadID), table.Col("call_type", &r.Details.CallType), table.Col("call_tag", &r.Details.CallTag),
		table.Col("language", &r.Details.Language), table.Col("recorded_at", &r.Details.RecordedAt), table.Fixed("audio_key", &r.Recording.Key),
		table.Fixed("audio_filename", &r.Recording.Filename), table.Fixed("content_type", &r.Recording.ContentType),
		table.Fixed("size_bytes", &r.Recording.SizeBytes), table.Fixed("sha256", &r.Recording.SHA256),
		table.Col("duration_seconds", &r.DurationSeconds), table.Col("title", &r.Insights.Title), table.Col("summary", &r.Insights.Summary),
		table.Col("action_items", &r.Insights.ActionItems), table.Col("sentiment", &r.Insights.Sentiment),
		table.Col("key_topics", &r.Insights.KeyTopics), table.Col("next_step", &r.Insights.NextStep),
		table.Col("intent_category", &r.Insights.IntentCategory), table.Col("intent_confidence", &r.Insights.IntentConfidence),
		table.Col("interest_level", &r.Insights.InterestLevel), table.Col("objections", &r.Insights.Objections),
		table.Col("callback_time", &r.Insights.CallbackTime), table.Col("transcription_model", &r.Models.Transcription),
		table.Col("chat_model", &r.Models.Chat), table.Col("coverage", &r.Coverage), table.Col("speakers", &r.Speakers), table.Col("talk", &r.Talk),
		table.Fixed("cost_usd", &r.CostUSD), table.Col("waiting_since", &r.WaitingSince), table.Fixed("created_at", &r.CreatedAt), table.Col("updated_at", &r.UpdatedAt),
		table.Col("completed_at", &r.CompletedAt), table.Col("lease_epoch", &r.Lease.Epoch), table.Col("lease_holder", &r.Lease.Holder),
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
		if err := s.lockClient(ctx, c.Details.ClientID); err != nil {
			return err
		}
		_, err := s.rows.Create(ctx, &r, "", events...)
		return err
	})
}

// lockClient prevents the deletion of a call's client until the transaction ends: its erasure must find the call.
func (s *calls) lockClient(ctx context.Context, id *string) error {
	if id == nil {
		return nil
	}
	deleted := false
	err := s.db.Conn(ctx).QueryRow(ctx, `select deleted from clients where id = $1 for share`, id).Scan(&deleted)
	switch {
	case pg.NoRows(err):
		return nil
	case err != nil:
		return fmt.Errorf("lock client %s: %w", *id, pg.Classify(err))
	case deleted:
		return call.ClientNotFound()
	}
	return nil
}

// CreateOnce writes a new call unless there is one with its id.
func (s *calls) CreateOnce(ctx context.Context, c call.Call, events ...event.Event) error {
	r := record{trace: s.tel.Inject(ctx)}
	r.set(c)
	_, err := s.rows.Create(ctx, &r, "on conflict (id) do nothing", events...)
	return err
}

// Find reads a call with its transcript.
func (s *calls) Find(ctx context.Context, id string) (call.Call, error) {
	r, err := s.rows.Find(ctx, id)
	return r.domain(), err
}

// List reads calls without their transcripts, newest first.
func (s *calls) List(ctx context.Context, f call.Filter) (page.Of[call.Call], error) {
	var w table.Where
	w.If(f.AgentID != "", "agent_id = ?", f.AgentID)
	w.If(f.IDs != nil, "id = any(?::uuid[])", f.IDs)
	w.If(f.Status != "", "status = ?", f.Status)
	w.If(f.ClientID != "", "client_id = ?", f.ClientID)
	w.If(f.LeadID != "", "lead_id = ?", f.LeadID)
	w.If(f.Sentiment != "", "sentiment = ?", f.Sentiment)
	w.If(f.From != nil, "created_at >= ?", f.From)
	w.If(f.To != nil, "created_at < ?", f.To)
	w.If(f.Text != "", "search @@ websearch_to_tsquery('simple', ?)", f.Text)
	found, err := s.summaries.List(ctx, w, f.Request)
	return page.Map(found, record.domain), err
}

// Change changes a call under its lock.
func (s *calls) Change(ctx context.Context, id string, fn func(*call.Call) ([]event.Event, error)) (call.Call, error) {
	r, err := s.rows.Change(ctx, id, func(r *record) ([]event.Event, error) { return r.edit(fn) })
	return r.domain(), err
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
			return events, s.insertErasure(ctx, call.Erasure{ID: r.ID, AudioKey: r.Recording.Key})
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
	if before != nil && after.Status == call.Completed && before.Status != call.Completed {
		if err := s.forgetAnswers(ctx, after.ID); err != nil {
			return fmt.Errorf("remove the raw answers of call %s: %w", after.ID, err)
		}
	}
	if before != nil && (after.Status == call.Completed || before.Status == call.Completed) {
		if err := s.saveSearch(ctx, after.ID); err != nil {
			return fmt.Errorf("make call %s searchable: %w", after.ID, err)
		}
	}
	if before != nil && before.Lease.Holder == nil && after.Lease.Holder != nil {
		if err := s.saveTurn(ctx, after.AgentID); err != nil {
			return fmt.Errorf("save the turn of agent %s: %w", after.AgentID, err)
		}
	}
	return s.jobs.Insert(ctx, Transcribe, after.ID, after.Lease)
}

// saveTurn records that an agent's call was begun.
func (s *calls) saveTurn(ctx context.Context, agentID string) error {
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

// saveSearch makes completed calls searchable, and no others. A tsvector has at most a megabyte.
func (s *calls) saveSearch(ctx context.Context, id string) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `
		update calls c set search = case when status = 'completed' then to_tsvector('simple', left(concat_ws(' ', title, summary,
			(select text from transcripts where call_id = c.id)), 300000)) end
		where id = $1`, id)
	return err
}

// traced returns ctx with the trace of the upload if it has none.
func (s *calls) traced(ctx context.Context, r *record) context.Context {
	if telemetry.TraceID(ctx) != "" {
		return ctx
	}
	return s.tel.Extract(ctx, r.trace)
}
