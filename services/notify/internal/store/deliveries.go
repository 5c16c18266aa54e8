package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// Attempt is the kind of the jobs that make the next attempt of a delivery.
const Attempt job.Kind = "notify.attempt"

// deliveries implements delivery.Store and delivery.Jobs on the tables deliveries and attempts.
type deliveries struct {
	*table.Table[delivery.Delivery]
	listed   *table.Table[delivery.Delivery] // without the columns that a list does not show
	attempts *table.Table[attemptRow]
	db       *pg.DB
	jobs     *job.Queue
	tel      telemetry.Set
}

type attemptRow struct {
	deliveryID string
	delivery.Attempt
}

// Deliveries returns the store of deliveries. Attempt must be handled before the first delivery is created or changed.
func Deliveries(db *pg.DB, out *outbox.Outbox, jobs *job.Queue, tel telemetry.Set) *deliveries {
	type d = delivery.Delivery
	type a = attemptRow
	s := &deliveries{db: db, jobs: jobs, tel: tel}
	spec := table.Spec[d]{
		Name: "deliveries",
		Columns: func(d *d) table.Columns {
			return table.Columns{
				table.Fixed("id", &d.ID), table.Fixed("endpoint_id", &d.EndpointID), table.Fixed("event", &d.Event),
				table.Fixed("event_id", &d.EventID), table.Fixed("event_time", &d.EventTime), table.Fixed("call_id", &d.CallID),
				table.Fixed("agent_id", &d.About.AgentID), table.Fixed("client_id", &d.About.ClientID), table.Fixed("lead_id", &d.About.LeadID),
				table.Fixed("followup_id", &d.About.FollowUpID),
				table.Col("status", &d.Status), table.Col("reason", &d.Reason),
				// The due time is written by the database's clock, and read as the time that resulted.
				table.Remaining("next_attempt_at", &d.NextAttemptIn), table.Joined("next_attempt_at", &d.NextAttemptAt),
				table.Col("lease_epoch", &d.Epoch), table.Col("lease_holder", &d.Holder), table.Remaining("lease_until", &d.Left),
				table.Col("attempts", &d.Attempts), table.Col("failures", &d.Failures), table.Fixed("created_at", &d.CreatedAt),
				table.Col("delivered_at", &d.DeliveredAt), table.Col("updated_at", &d.UpdatedAt),
			}
		},
		Order:   table.Newest(func(d d) time.Time { return d.CreatedAt }, func(d d) string { return d.ID }),
		Missing: delivery.NotFound,
	}
	s.listed = table.New(db, nil, spec)
	listed := spec.Columns
	spec.Columns = func(d *d) table.Columns {
		return append(listed(d), table.Fixed("data", (*[]byte)(&d.Data)), table.Col("body", &d.Body), table.Fixed("trace", &d.Trace))
	}
	spec.Save = s.save
	spec.Context = func(ctx context.Context, d *d) context.Context { return tel.Extract(ctx, d.Trace) }
	s.Table = table.New(db, out, spec)
	s.attempts = table.New(db, nil, table.Spec[a]{
		Name: "attempts",
		Columns: func(a *a) table.Columns {
			return table.Columns{
				table.Fixed("delivery_id", &a.deliveryID), table.Fixed("number", &a.Number), table.Fixed("started_at", &a.StartedAt),
				table.Fixed("latency_ms", &a.LatencyMS), table.Fixed("status_code", &a.StatusCode), table.Fixed("error", &a.Error),
				table.Fixed("answer", &a.Excerpt), table.Fixed("trace_id", &a.TraceID),
			}
		},
	})
	return s
}

// save writes the attempts that a change added and inserts the job that it requests.
func (s *deliveries) save(ctx context.Context, _, d *delivery.Delivery) error {
	for _, a := range d.Log {
		if _, err := s.attempts.Create(ctx, &attemptRow{d.ID, a}, ""); err != nil {
			return err
		}
	}
	return s.jobs.Insert(ctx, Attempt, d.ID, d.Lease)
}

// Create writes deliveries. It ignores one whose event and endpoint already have one. Their attempts belong to the trace of ctx.
func (s *deliveries) Create(ctx context.Context, created ...delivery.Delivery) error {
	trace := s.tel.Inject(ctx)
	return s.db.InTx(ctx, func(ctx context.Context) error {
		for _, d := range created {
			d.Trace = trace
			if _, err := s.Table.Create(ctx, &d, "on conflict (event_id, endpoint_id) do nothing"); err != nil {
				return err
			}
		}
		return nil
	})
}

// Find reads a delivery with its attempts.
func (s *deliveries) Find(ctx context.Context, id string) (delivery.Delivery, error) {
	d, err := s.Table.Find(ctx, id)
	if err != nil {
		return d, err
	}
	var w table.Where
	w.And("delivery_id = ?", id)
	rows, err := s.attempts.Query(ctx, w, "order by number")
	if err != nil {
		return d, err
	}
	d.Log = make([]delivery.Attempt, len(rows))
	for i, r := range rows {
		d.Log[i] = r.Attempt
	}
	return d, nil
}

// List reads a page of deliveries, newest first.
func (s *deliveries) List(ctx context.Context, f delivery.Filter) (page.Of[delivery.Delivery], error) {
	var w table.Where
	w.If(f.Status != nil, "status = ?", f.Status)
	w.If(f.Event != nil, "event = ?", f.Event)
	w.If(f.EndpointID != nil, "endpoint_id = ?", f.EndpointID)
	w.If(f.CallID != nil, "call_id = ?", f.CallID)
	w.If(f.From != nil, "created_at >= ?", f.From)
	w.If(f.To != nil, "created_at < ?", f.To)
	return s.listed.List(ctx, w, f.Request)
}

// changeLimit is the maximum number of deliveries that one transaction changes, so that none holds locks for long.
const changeLimit = 200

// ChangeEach changes the selected deliveries, in as many transactions as it takes.
func (s *deliveries) ChangeEach(ctx context.Context, sel delivery.Selection, fn func(*delivery.Delivery)) error {
	var w table.Where
	order := "next_attempt_at, id"
	if sel.Expired {
		w.And("lease_until < now()")
		order = "lease_until, id"
	} else {
		w.And("status = any(?) and endpoint_id = ? and lease_holder is null", sel.Statuses, sel.EndpointID)
	}
	for {
		n, err := s.Table.ChangeEach(ctx, w, order, changeLimit, func(d *delivery.Delivery) ([]event.Event, error) {
			fn(d)
			return nil, nil
		})
		if err != nil || n < changeLimit {
			return err
		}
	}
}

// abandonedLimit is more than the number of jobs that the workers of a dead process may have fetched.
const abandonedLimit = 1000

// ListAbandoned lists jobs that a process fetched a while ago and never began.
func (s *deliveries) ListAbandoned(ctx context.Context) ([]delivery.Abandoned, error) {
	found, err := s.jobs.Abandoned(ctx, Attempt, "deliveries", abandonedLimit)
	if err != nil {
		return nil, err
	}
	abandoned := make([]delivery.Abandoned, len(found))
	for i, a := range found {
		abandoned[i] = delivery.Abandoned{DeliveryID: a.ID, Epoch: a.Epoch}
	}
	return abandoned, nil
}

// ListBacklog counts the deliveries that are not delivered, by status.
func (s *deliveries) ListBacklog(ctx context.Context) ([]delivery.Backlog, error) {
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
