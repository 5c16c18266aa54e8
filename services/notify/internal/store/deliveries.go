package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// Deliveries keeps deliveries, their attempts and their jobs.
type Deliveries struct {
	db   *pg.DB
	out  *outbox.Outbox
	jobs *job.Queue
	tel  telemetry.Set
}

// NewDeliveries makes the store.
func NewDeliveries(db *pg.DB, out *outbox.Outbox, jobs *job.Queue, tel telemetry.Set) *Deliveries {
	return &Deliveries{db, out, jobs, tel}
}

const deliveryColumns = `id::text, endpoint_id::text, event, event_id::text, event_time, call_id::text, data, body, status, attempts, next_attempt_at, reason, epoch, lease_until, trace, created_at, delivered_at, updated_at`

type deliveryRow struct {
	ID            string
	EndpointID    string
	Event         string
	EventID       string
	EventTime     time.Time
	CallID        *string
	Data          []byte
	Body          []byte
	Status        delivery.Status
	Attempts      int
	NextAttemptAt *time.Time
	Reason        *string
	Epoch         int64
	LeaseUntil    *time.Time
	Trace         []byte
	CreatedAt     time.Time
	DeliveredAt   *time.Time
	UpdatedAt     time.Time
}

func (r deliveryRow) delivery() delivery.Delivery {
	return delivery.Delivery{
		ID: r.ID, EndpointID: r.EndpointID, Event: r.Event, EventID: r.EventID, EventTime: r.EventTime.UTC(), CallID: r.CallID,
		Data: r.Data, Body: r.Body, Status: r.Status, Attempts: r.Attempts, NextAttemptAt: utc(r.NextAttemptAt), Reason: r.Reason,
		Epoch: r.Epoch, LeaseUntil: utc(r.LeaseUntil), CreatedAt: r.CreatedAt.UTC(), DeliveredAt: utc(r.DeliveredAt), UpdatedAt: r.UpdatedAt.UTC(),
	}
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// Create implements delivery.Store.
func (s *Deliveries) Create(ctx context.Context, deliveries ...delivery.Delivery) error {
	trace, err := json.Marshal(s.tel.Inject(ctx))
	if err != nil {
		return fmt.Errorf("marshal the trace: %w", err)
	}
	return s.db.InTx(ctx, func(ctx context.Context) error {
		for _, d := range deliveries {
			tag, err := s.db.Conn(ctx).Exec(ctx, `insert into deliveries (id, endpoint_id, event, event_id, event_time, call_id, data, status, attempts, next_attempt_at, epoch, trace, created_at, updated_at)
				values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
				on conflict (event_id, endpoint_id) do nothing`,
				d.ID, d.EndpointID, d.Event, d.EventID, d.EventTime, d.CallID, []byte(d.Data), d.Status, d.Attempts, d.NextAttemptAt, d.Epoch, trace, d.CreatedAt, d.UpdatedAt)
			if err != nil {
				return fmt.Errorf("insert delivery %s: %w", d.ID, err)
			}
			if tag.RowsAffected() == 0 {
				continue
			}
			if err := s.jobs.Insert(ctx, d.ID, d.Epoch, *d.NextAttemptAt); err != nil {
				return err
			}
		}
		return nil
	})
}

// Find implements delivery.Store.
func (s *Deliveries) Find(ctx context.Context, id string) (d delivery.Delivery, err error) {
	batch := &pgx.Batch{}
	batch.Queue(`select `+deliveryColumns+` from deliveries where id = $1`, id)
	batch.Queue(`select number, started_at, latency_ms, status_code, error, answer, trace_id from attempts where delivery_id = $1 order by number`, id)
	results := s.db.Conn(ctx).SendBatch(ctx, batch)
	defer func() { _ = results.Close() }()
	rows, _ := results.Query() // its error is that of the rows
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[deliveryRow])
	if pg.NoRows(err) {
		return d, delivery.NotFound()
	}
	if err != nil {
		return d, fmt.Errorf("find delivery %s: %w", id, err)
	}
	d = r.delivery()
	rows, _ = results.Query()
	if d.Log, err = pgx.CollectRows(rows, attempt); err != nil {
		return d, fmt.Errorf("find the attempts of delivery %s: %w", id, err)
	}
	return d, nil
}

func attempt(row pgx.CollectableRow) (a delivery.Attempt, err error) {
	err = row.Scan(&a.Number, &a.StartedAt, &a.LatencyMS, &a.StatusCode, &a.Error, &a.Excerpt, &a.TraceID)
	a.StartedAt = a.StartedAt.UTC()
	return a, err
}

// List implements delivery.Store.
func (s *Deliveries) List(ctx context.Context, f delivery.Filter) (p delivery.Page, err error) {
	var where []string
	args := pgx.NamedArgs{"limit": f.Limit + 1, "skip": f.Skip}
	filter := func(condition, name string, value any) {
		where, args[name] = append(where, condition), value
	}
	if f.Status != nil {
		filter(`status = @status`, "status", *f.Status)
	}
	if f.Event != nil {
		filter(`event = @event`, "event", *f.Event)
	}
	if f.EndpointID != nil {
		filter(`endpoint_id = @endpoint`, "endpoint", *f.EndpointID)
	}
	if f.CallID != nil {
		filter(`call_id = @call`, "call", *f.CallID)
	}
	if f.From != nil {
		filter(`created_at >= @from`, "from", *f.From)
	}
	if f.To != nil {
		filter(`created_at < @to`, "to", *f.To)
	}
	if f.Cursor != "" {
		c, err := pg.DecodeCursor(f.Cursor)
		if err != nil {
			return p, err
		}
		filter(`(created_at, id) < (@at, @id)`, "at", c.At)
		args["id"] = c.ID
	}
	// A list shows neither the payload nor the body, so they stay where they are.
	columns := strings.Replace(deliveryColumns, "data, body", "''::bytea, null::bytea", 1)
	rows, err := s.db.Conn(ctx).Query(ctx, `select `+columns+` from deliveries`+conditions(where)+` order by created_at desc, id desc limit @limit offset @skip`, args)
	if err != nil {
		return p, fmt.Errorf("list deliveries: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[deliveryRow])
	if err != nil {
		return p, fmt.Errorf("list deliveries: %w", err)
	}
	if len(found) > f.Limit {
		found = found[:f.Limit]
		last := found[f.Limit-1]
		p.Next = pg.Cursor{At: last.CreatedAt, ID: last.ID}.Encode()
	}
	p.Items = make([]delivery.Delivery, len(found))
	for i, r := range found {
		p.Items[i] = r.delivery()
	}
	return p, nil
}

func conditions(where []string) string {
	if len(where) == 0 {
		return ""
	}
	return " where " + strings.Join(where, " and ")
}

// Change implements delivery.Store.
func (s *Deliveries) Change(ctx context.Context, id string, fn func(*delivery.Delivery) ([]event.Event, error)) (d delivery.Delivery, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		rows, err := s.db.Conn(ctx).Query(ctx, `select `+deliveryColumns+` from deliveries where id = $1 for update`, id)
		if err != nil {
			return fmt.Errorf("lock delivery %s: %w", id, err)
		}
		r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[deliveryRow])
		if pg.NoRows(err) {
			return delivery.NotFound()
		}
		if err != nil {
			return fmt.Errorf("lock delivery %s: %w", id, err)
		}
		d = r.delivery()
		events, err := fn(&d)
		if err != nil {
			return err
		}
		if err := s.save(ctx, r, d); err != nil {
			return err
		}
		return s.out.Append(ctx, events...)
	})
	return d, err
}

const sweep = 200 // deliveries per transaction, so that none holds locks for long

// ChangeEach implements delivery.Store.
func (s *Deliveries) ChangeEach(ctx context.Context, sel delivery.Selection, fn func(*delivery.Delivery)) error {
	where, args := []string{`status = any(@statuses)`}, pgx.NamedArgs{"statuses": sel.Statuses, "limit": sweep}
	if sel.EndpointID != "" {
		where, args["endpoint"] = append(where, `endpoint_id = @endpoint`), sel.EndpointID
	}
	if !sel.DueBefore.IsZero() {
		where, args["due"] = append(where, `next_attempt_at < @due`), sel.DueBefore
	}
	if sel.LeaseEnded.IsZero() {
		where = append(where, `lease_until is null`)
	} else {
		where, args["ended"] = append(where, `lease_until < @ended`), sel.LeaseEnded
	}
	sql := `select ` + deliveryColumns + ` from deliveries` + conditions(where) + ` order by next_attempt_at, id limit @limit for update skip locked`
	for {
		n := 0
		err := s.db.InTx(ctx, func(ctx context.Context) error {
			rows, err := s.db.Conn(ctx).Query(ctx, sql, args)
			if err != nil {
				return fmt.Errorf("select deliveries to change: %w", err)
			}
			found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[deliveryRow])
			if err != nil {
				return fmt.Errorf("select deliveries to change: %w", err)
			}
			n = len(found)
			for _, r := range found {
				d := r.delivery()
				fn(&d)
				if err := s.save(ctx, r, d); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || n < sweep {
			return err
		}
	}
}

// save writes what became of a row, the attempts that were added, and the job of a new epoch.
func (s *Deliveries) save(ctx context.Context, before deliveryRow, d delivery.Delivery) error {
	batch := &pgx.Batch{}
	batch.Queue(`update deliveries set body = $2, status = $3, attempts = $4, next_attempt_at = $5, reason = $6, epoch = $7, lease_until = $8, delivered_at = $9, updated_at = $10 where id = $1`,
		d.ID, d.Body, d.Status, d.Attempts, d.NextAttemptAt, d.Reason, d.Epoch, d.LeaseUntil, d.DeliveredAt, d.UpdatedAt)
	for _, a := range d.Log {
		batch.Queue(`insert into attempts (delivery_id, number, started_at, latency_ms, status_code, error, answer, trace_id) values ($1, $2, $3, $4, $5, $6, $7, $8)`,
			d.ID, a.Number, a.StartedAt, a.LatencyMS, a.StatusCode, a.Error, a.Excerpt, a.TraceID)
	}
	if err := s.db.Conn(ctx).SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("save delivery %s: %w", d.ID, err)
	}
	if d.Epoch == before.Epoch || d.NextAttemptAt == nil {
		return nil
	}
	var trace map[string]string
	if err := json.Unmarshal(before.Trace, &trace); err != nil {
		return fmt.Errorf("read the trace of delivery %s: %w", d.ID, err)
	}
	return s.jobs.Insert(s.tel.Extract(ctx, trace), d.ID, d.Epoch, *d.NextAttemptAt)
}

// ListBacklog is what is not delivered, by status.
func (s *Deliveries) ListBacklog(ctx context.Context) ([]delivery.Backlog, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, `select status, count(*), now() - min(created_at) from deliveries where status <> 'delivered' group by status`)
	if err != nil {
		return nil, fmt.Errorf("count the backlog: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[delivery.Backlog])
	if err != nil {
		return nil, fmt.Errorf("count the backlog: %w", err)
	}
	return found, nil
}
