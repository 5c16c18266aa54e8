package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// deliveries implements delivery.Store and delivery.Queue on the tables deliveries, attempts and seen.
type deliveries struct {
	*table.Table[delivery.Delivery]                                 // with everything
	listed                          *table.Table[delivery.Delivery] // without the columns that a list does not show
	claimed                         *table.Table[delivery.Delivery] // with what is sent, and without what it was made from
	queued                          *table.Table[delivery.Delivery] // with the trace, and without what is sent
	attempts                        *table.Table[attemptRow]
	db                              *pg.DB
	tel                             telemetry.Set
}

type attemptRow struct {
	deliveryID string
	delivery.Attempt
}

// Deliveries returns the store of deliveries.
func Deliveries(db *pg.DB, out *outbox.Outbox, tel telemetry.Set) *deliveries {
	type d = delivery.Delivery
	type a = attemptRow
	s := &deliveries{db: db, tel: tel}
	listed := func(d *d) table.Columns {
		return table.Columns{
			table.Fixed("id", &d.ID), table.Fixed("endpoint_id", &d.EndpointID), table.Fixed("event", &d.Event),
			table.Fixed("event_id", &d.EventID), table.Fixed("event_time", &d.EventTime), table.Fixed("call_id", &d.CallID),
			table.Fixed("agent_id", &d.About.AgentID), table.Fixed("client_id", &d.About.ClientID), table.Fixed("lead_id", &d.About.LeadID),
			table.Fixed("followup_id", &d.About.FollowUpID), table.Fixed("replay_of", &d.ReplayOf), table.Fixed("replay_id", &d.ReplayID),
			table.Col("status", &d.Status), table.Col("reason", &d.Reason), table.Joined("e.disabled_reason", &d.Disabled), table.Joined("e.epoch", &d.EndpointEpoch),
			// The due time is written by the database's clock, and read as the time that resulted.
			table.Remaining("next_attempt_at", &d.NextAttemptIn), table.Joined("d.next_attempt_at", &d.NextAttemptAt),
			table.Col("lease_epoch", &d.Epoch), table.Col("lease_holder", &d.Holder), table.Remaining("lease_until", &d.Left),
			table.Col("attempts", &d.Attempts), table.Col("failures", &d.Failures), table.Col("incomplete", &d.Incomplete),
			table.Fixed("created_at", &d.CreatedAt), table.Col("delivered_at", &d.DeliveredAt), table.Col("updated_at", &d.UpdatedAt),
		}
	}
	spec := table.Spec[d]{
		Name:    "deliveries",
		From:    "deliveries d join endpoints e on e.id = d.endpoint_id",
		Columns: listed,
		Order: table.Order[d]{Desc: true, Keys: []table.Key[d]{
			{Name: "d.created_at", Type: "timestamptz", Of: func(d d) any { return d.CreatedAt }},
			{Name: "d.id", Type: "uuid", Of: func(d d) any { return d.ID }},
		}},
		Missing: delivery.NotFound,
		Record:  s.record,
		Context: func(ctx context.Context, d *d) context.Context { return tel.Extract(ctx, d.Trace) },
	}
	ofList := spec
	ofList.Replan = true // few deliveries have some of the statuses, and nearly all have another
	s.listed = table.New(db, nil, ofList)
	spec.Columns = func(d *d) table.Columns { return append(listed(d), table.Joined("d.trace", &d.Trace)) }
	s.queued = table.New(db, out, spec)
	spec.Columns = func(d *d) table.Columns {
		return append(listed(d), table.Joined("d.trace", &d.Trace), table.Joined("d.body", &d.Body),
			table.Joined("case when d.body is null then d.data end", (*[]byte)(&d.Data)))
	}
	s.claimed = table.New(db, out, spec)
	spec.Columns = func(d *d) table.Columns {
		return append(listed(d), table.Fixed("data", (*[]byte)(&d.Data)), table.Col("body", &d.Body), table.Fixed("trace", &d.Trace))
	}
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

// record writes the attempts that changes added.
func (s *deliveries) record(ctx context.Context, changes []table.Change[delivery.Delivery]) error {
	var added []attemptRow
	for _, c := range changes {
		for _, a := range c.After.Log {
			added = append(added, attemptRow{c.After.ID, a})
		}
	}
	written, err := s.attempts.CreateAll(ctx, added, func(*attemptRow) []event.Event { return nil })
	if err == nil && len(written) < len(added) {
		err = fmt.Errorf("%d of %d attempts have been recorded before", len(added)-len(written), len(added))
	}
	return err
}

// Create writes deliveries. It ignores one whose event and endpoint already had one. Their attempts belong to the trace of ctx.
func (s *deliveries) Create(ctx context.Context, created ...delivery.Delivery) error {
	trace := s.tel.Inject(ctx)
	return s.db.InTx(ctx, func(ctx context.Context) error {
		ids, events, endpoints := make([]string, len(created)), make([]string, len(created)), make([]string, len(created))
		for i, d := range created {
			ids[i], events[i], endpoints[i] = d.ID, d.EventID, d.EndpointID
		}
		rows, err := s.db.Conn(ctx).Query(ctx, `
			insert into seen (delivery_id, event_id, endpoint_id) select * from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as n (d, v, e) order by v, e
			on conflict do nothing returning delivery_id::text`, ids, events, endpoints)
		if err != nil {
			return fmt.Errorf("record events as received: %w", pg.Classify(err))
		}
		fresh, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("record events as received: %w", pg.Classify(err))
		}
		var missing []delivery.Delivery
		for _, d := range created {
			if slices.Contains(fresh, d.ID) {
				d.Trace = trace
				missing = append(missing, d)
			}
		}
		_, err = s.CreateAll(ctx, missing, func(*delivery.Delivery) []event.Event { return nil })
		return err
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

// statuses are the conditions for deliveries that are shown with a status. A waiting delivery is held while its endpoint is disabled.
var statuses = map[delivery.Status]string{
	delivery.Pending:   "d.status = 'pending' and e.enabled",
	delivery.Retrying:  "d.status = 'retrying' and e.enabled",
	delivery.Held:      "d.status in ('pending', 'retrying') and not e.enabled",
	delivery.Delivered: "d.status = 'delivered'",
	delivery.Dead:      "d.status = 'dead'",
}

// List reads a page of deliveries, newest first.
func (s *deliveries) List(ctx context.Context, f delivery.Filter) (page.Of[delivery.Delivery], error) {
	return s.listed.List(ctx, where(f), f.Request)
}

func where(f delivery.Filter) (w table.Where) {
	if f.Status != nil {
		w.And(statuses[*f.Status])
	}
	w.If(f.Event != nil, "d.event = ?", f.Event)
	w.If(f.EndpointID != nil, "d.endpoint_id = ?", f.EndpointID)
	w.If(f.CallID != nil, "d.call_id = ?", f.CallID)
	w.If(f.ReplayID != nil, "d.replay_id = ?", f.ReplayID)
	w.If(f.From != nil, "d.created_at >= ?", f.From)
	w.If(f.To != nil, "d.created_at < ?", f.To)
	return w
}

// waiting is the condition for deliveries that no worker is sending. Few that are due have a lease, so its columns are in no index: a claim
// that changes no indexed column is cheap (HOT).
const waiting = "d.status in ('pending', 'retrying') and (d.lease_until is null or d.lease_until < now())"

// stopped is what lease.Lease.Stop changes, for a statement that changes many rows.
const stopped = "lease_epoch = lease_epoch + 1, lease_holder = null, lease_until = null"

// ListWaiting says how much waits for each endpoint that is enabled; it counts up to limit deliveries that are due.
func (s *deliveries) ListWaiting(ctx context.Context, limit int) ([]delivery.Waiting, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, `
		select e.id::text, e.rate_limit_per_second is not null or e.next_probe_at is not null,
			(select count(*) from (select from deliveries d where d.endpoint_id = e.id and `+waiting+` and d.next_attempt_at <= now() limit $1) as due),
			(select d.next_attempt_at from deliveries d where d.endpoint_id = e.id and `+waiting+` and d.next_attempt_at > now() order by d.next_attempt_at limit 1) - now(),
			greatest(e.next_probe_at, e.next_send_at, now()) - now()
		from endpoints e where e.enabled`, limit)
	if err != nil {
		return nil, fmt.Errorf("list what waits: %w", pg.Classify(err))
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[delivery.Waiting])
	if err != nil {
		return nil, fmt.Errorf("list what waits: %w", pg.Classify(err))
	}
	return found, nil
}

// ChangeDue lets fn change the deliveries that are due, the longest due first. numbers limits how many it takes of each
// endpoint. It skips those that another transaction is changing and those of an endpoint that was disabled.
func (s *deliveries) ChangeDue(ctx context.Context, numbers map[string]int, fn func(*delivery.Delivery) error) ([]delivery.Delivery, error) {
	var w table.Where
	ids := slices.Sorted(maps.Keys(numbers))
	limits := make([]int, len(ids))
	for i, id := range ids {
		limits[i] = numbers[id]
	}
	w.And(`d.id = any(array(
		select due.id from unnest(?::uuid[], ?::int[]) as r (endpoint_id, number) join endpoints e on e.id = r.endpoint_id and e.enabled
		cross join lateral (select id from deliveries d where d.endpoint_id = r.endpoint_id and `+waiting+`
			and d.next_attempt_at <= now() order by d.next_attempt_at, d.id limit r.number for no key update skip locked) as due))`, ids, limits)
	return s.claimed.ChangeWhere(ctx, w, "order by d.next_attempt_at, d.id for no key update of d", func(d *delivery.Delivery) (table.Outcome, []event.Event, error) {
		return table.Write, nil, fn(d)
	})
}

// ChangeAll lets fn change the deliveries with these ids, and saves those for which it returns true.
func (s *deliveries) ChangeAll(ctx context.Context, ids []string, fn func(*delivery.Delivery) (bool, []event.Event, error)) error {
	_, err := s.queued.ChangeAll(ctx, ids, func(d *delivery.Delivery) (table.Outcome, []event.Event, error) {
		change, events, err := fn(d)
		if !change {
			return table.Unchanged, nil, err
		}
		return table.Write, events, err
	})
	return err
}

// changeLimit is the maximum number of deliveries that one transaction changes, so that none holds locks for long.
const changeLimit = 500

// ChangeEach changes the selected deliveries, in as many transactions as it takes, and returns how many.
func (s *deliveries) ChangeEach(ctx context.Context, sel delivery.Selection, fn func(*delivery.Delivery) []event.Event) (n int, err error) {
	var w table.Where
	w.And(waiting)
	w.If(sel.ReplayID != "", "d.replay_id = ?", sel.ReplayID)
	if sel.Deleted {
		w.And("d.endpoint_id in (select id from endpoints where deleted_at is not null)")
	}
	for {
		rows, err := s.queued.ChangeWhere(ctx, w, fmt.Sprintf("order by d.next_attempt_at, d.id limit %d for no key update of d skip locked", changeLimit),
			func(d *delivery.Delivery) (table.Outcome, []event.Event, error) { return table.Write, fn(d), nil })
		n += len(rows)
		if err != nil || len(rows) < changeLimit {
			return n, err
		}
	}
}

// Resume makes the deliveries of an endpoint that wait for a retry due, in the order of their age.
func (s *deliveries) Resume(ctx context.Context, endpointID string) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `
		update deliveries d set `+stopped+`, next_attempt_at = least(created_at, now()), updated_at = now()
		where endpoint_id = $1 and status = 'retrying' and `+waiting, endpointID)
	if err != nil {
		return fmt.Errorf("resume the deliveries of endpoint %s: %w", endpointID, pg.Classify(err))
	}
	return nil
}

// ListBacklog counts the deliveries that are not delivered, by status.
func (s *deliveries) ListBacklog(ctx context.Context) ([]delivery.Backlog, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, `
		select case when e.enabled then d.status else 'held' end, count(*), now() - min(d.created_at)
			from deliveries d join endpoints e on e.id = d.endpoint_id where d.status in ('pending', 'retrying') group by 1
		union all select 'dead', count(*), now() - min(created_at) from deliveries where status = 'dead' having count(*) > 0`)
	if err != nil {
		return nil, fmt.Errorf("count the backlog: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[delivery.Backlog])
	if err != nil {
		return nil, fmt.Errorf("count the backlog: %w", err)
	}
	return found, nil
}

// reconciled is how far back ListMissing looks.
const reconciled = 24 * time.Hour

// ListMissing counts the events of the last day that an endpoint was to get and for which there is no delivery that has ended or will be
// attempted: events − delivered − pending − retrying − held − dead. It is 0, always.
func (s *deliveries) ListMissing(ctx context.Context) (n int64, err error) {
	err = s.db.Conn(ctx).QueryRow(ctx, `
		select count(*) from seen s where s.event_id >= first_delivery_id(now() - $1::interval) and not exists (
			select from deliveries d where d.id >= first_delivery_id(now() - $1::interval - interval '1 hour') and d.id = s.delivery_id and (d.status in ('delivered', 'dead') or d.status in ('pending', 'retrying') and d.next_attempt_at is not null))`,
		reconciled).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the events without a delivery: %w", pg.Classify(err))
	}
	return n, nil
}
