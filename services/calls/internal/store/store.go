// Package store keeps calls, their transcripts and the copies of clients in PostgreSQL. Every change of a call is one
// transaction with its events and its job. It refuses to decide anything about them.
package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables of the service.
func Migrations() pg.Migrations {
	sub, _ := fs.Sub(files, "migrations") // the name is right: the embed directive says so
	return pg.Migrations{Name: "calls", FS: sub}
}

// Store is a call.Store.
type Store struct {
	db     *pg.DB
	outbox *outbox.Outbox
	queue  *job.Queue
	tel    telemetry.Set
	sql    statements
}

// New makes the store of the schema db is.
func New(db *pg.DB, out *outbox.Outbox, queue *job.Queue, tel telemetry.Set) *Store {
	return &Store{db: db, outbox: out, queue: queue, tel: tel, sql: newStatements()}
}

// Create writes a new call, its events and its job.
func (s *Store) Create(ctx context.Context, c call.Call, events []event.Event) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		args := values(c)
		args["trace"] = s.tel.Inject(ctx)
		if _, err := s.db.Conn(ctx).Exec(ctx, s.sql.insert, args); err != nil {
			return fmt.Errorf("insert call %s: %w", c.ID, err)
		}
		return s.consequences(ctx, c, events)
	})
}

// consequences writes the events and the job that a change asks for.
func (s *Store) consequences(ctx context.Context, c call.Call, events []event.Event) error {
	if err := s.outbox.Append(ctx, events...); err != nil {
		return err
	}
	if c.Next == nil {
		return nil
	}
	return s.queue.Insert(ctx, c.ID, c.Lease.Epoch, *c.Next)
}

// Find reads a call with its transcript.
func (s *Store) Find(ctx context.Context, id string) (call.Call, error) {
	found, err := s.one(ctx, id, "")
	return found.Call, err
}

type found struct {
	call.Call
	trace map[string]string
}

func (s *Store) one(ctx context.Context, id, lock string) (found, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, `select `+s.sql.selected+`, c.trace, t.text as transcript, t.segments
		from calls c left join transcripts t on t.call_id = c.id where c.id = $1 `+lock, id)
	if err != nil {
		return found{}, fmt.Errorf("read call %s: %w", id, err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[fullRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return found{}, call.NotFound()
	}
	if err != nil {
		return found{}, fmt.Errorf("read call %s: %w", id, err)
	}
	c := r.call()
	if r.Transcript != nil {
		c.Transcript = &call.Transcript{Text: *r.Transcript, Segments: r.Segments}
	}
	return found{c, r.Trace}, nil
}

// Change loads a call under lock and saves what fn makes of it, with its events and its job. Outside of a trace it joins
// that of the upload.
func (s *Store) Change(ctx context.Context, id string, fn func(*call.Call) ([]event.Event, error)) (changed call.Call, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		f, err := s.one(ctx, id, "for update of c")
		if err != nil {
			return err
		}
		c, before := f.Call, f.Transcript
		events, err := fn(&c)
		if err != nil {
			return err
		}
		if err := s.save(ctx, c, c.Transcript != before); err != nil {
			return err
		}
		changed = c
		return s.consequences(s.traced(ctx, f), c, events)
	})
	return changed, err
}

// Remove deletes a call after fn has run under its lock, and publishes fn's events.
func (s *Store) Remove(ctx context.Context, id string, fn func(context.Context, *call.Call) ([]event.Event, error)) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		f, err := s.one(ctx, id, "for update of c")
		if err != nil {
			return err
		}
		events, err := fn(ctx, &f.Call)
		if err != nil {
			return err
		}
		if _, err := s.db.Conn(ctx).Exec(ctx, `delete from calls where id = $1`, id); err != nil {
			return fmt.Errorf("delete call %s: %w", id, err)
		}
		return s.outbox.Append(ctx, events...)
	})
}

func (s *Store) traced(ctx context.Context, f found) context.Context {
	if telemetry.TraceID(ctx) != "" {
		return ctx
	}
	return s.tel.Extract(ctx, f.trace)
}

func (s *Store) save(ctx context.Context, c call.Call, newTranscript bool) error {
	batch := &pgx.Batch{}
	if newTranscript && c.Transcript == nil {
		batch.Queue(`delete from transcripts where call_id = $1`, c.ID)
	} else if newTranscript {
		batch.Queue(`insert into transcripts (call_id, text, segments) values ($1, $2, $3)
			on conflict (call_id) do update set text = excluded.text, segments = excluded.segments`, c.ID, c.Transcript.Text, c.Transcript.Segments)
	}
	batch.Queue(s.sql.update, values(c))
	if err := s.db.Conn(ctx).SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("save call %s: %w", c.ID, err)
	}
	return nil
}

// List reads calls without their transcripts, newest first. A cursor that is none is an Invalid fault.
func (s *Store) List(ctx context.Context, f call.Filter) (call.Page, error) {
	where, args, err := conditions(f)
	if err != nil {
		return call.Page{}, err
	}
	args["limit"], args["skip"] = f.Limit+1, f.Skip
	rows, err := s.db.Conn(ctx).Query(ctx, `select `+s.sql.selected+` from calls c where `+where+
		` order by c.created_at desc, c.id desc limit @limit offset @skip`, args)
	if err != nil {
		return call.Page{}, fmt.Errorf("list calls: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return call.Page{}, fmt.Errorf("list calls: %w", err)
	}
	var page call.Page
	if len(list) > f.Limit {
		list = list[:f.Limit]
		last := list[f.Limit-1]
		page.Next = pg.Cursor{At: last.CreatedAt, ID: last.ID}.Encode()
	}
	for _, r := range list {
		page.Calls = append(page.Calls, r.call())
	}
	return page, nil
}

func conditions(f call.Filter) (string, pgx.NamedArgs, error) {
	where, args := []string{"true"}, pgx.NamedArgs{}
	add := func(present bool, condition, name string, value any) {
		if present {
			where, args[name] = append(where, condition), value
		}
	}
	add(f.AgentID != "", "c.agent_id = @agent", "agent", f.AgentID)
	add(f.IDs != nil, "c.id = any(@ids::uuid[])", "ids", f.IDs)
	add(f.Status != "", "c.status = @status", "status", f.Status)
	add(f.ClientID != "", "c.client_id = @client", "client", f.ClientID)
	add(f.LeadID != "", "c.lead_id = @lead", "lead", f.LeadID)
	add(f.Sentiment != "", "c.sentiment = @sentiment", "sentiment", f.Sentiment)
	add(f.From != nil, "c.created_at >= @from", "from", f.From)
	add(f.To != nil, "c.created_at < @to", "to", f.To)
	add(f.Text != "", "c.search @@ websearch_to_tsquery('simple', @text)", "text", f.Text)
	add(f.LeaseBefore != nil, "c.lease_until <= @lease", "lease", f.LeaseBefore)
	if f.Cursor != "" {
		cursor, err := pg.DecodeCursor(f.Cursor)
		if err != nil {
			return "", nil, err
		}
		where = append(where, "(c.created_at, c.id) < (@at, @id)")
		args["at"], args["id"] = cursor.At, cursor.ID
	}
	return strings.Join(where, " and "), args, nil
}
