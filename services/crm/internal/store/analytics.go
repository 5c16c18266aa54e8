package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
)

// recordDeltas writes what changes of rows add to the counts and remove from them. All changes of leads and calls pass here, because
// their tables call it for every write.
func recordDeltas[T any](ctx context.Context, db *pg.DB, changes []table.Change[T], of func(*T) *analytics.Fact) error {
	var all []analytics.Delta
	for _, c := range changes {
		all = append(all, analytics.Deltas(of(c.Before), of(c.After))...)
	}
	if len(all) == 0 {
		return nil
	}
	const columns = 13
	values := make([]string, 0, len(all))
	args := make([]any, 0, columns*len(all))
	if len(all) <= 2 { // the usual change of one row
		for _, d := range all {
			places := make([]string, columns)
			for i := range places {
				places[i] = "$" + strconv.Itoa(len(args)+i+1)
			}
			values = append(values, "("+strings.Join(places, ", ")+")")
			args = append(args, deltaValues(d)...)
		}
		return execDeltas(ctx, db, "values "+strings.Join(values, ", "), args)
	}
	types := []string{"smallint", "boolean", "uuid", "text", "text", "text", "integer", "boolean", "integer", "integer", "integer", "integer", "text"}
	lists := make([][]any, columns)
	for _, d := range all {
		for i, v := range deltaValues(d) {
			lists[i] = append(lists[i], v)
		}
	}
	for i, list := range lists {
		values = append(values, fmt.Sprintf("$%d::%s[]", i+1, types[i]))
		args = append(args, list)
	}
	return execDeltas(ctx, db, "select * from unnest("+strings.Join(values, ", ")+")", args)
}

func execDeltas(ctx context.Context, db *pg.DB, rows string, args []any) error {
	return db.Later(ctx, "record changes of counts", `insert into analytics_deltas (sign, lead, agent_id, status, intent, campaign, followups, contacted,
		created_slot, converted_slot, touched_slot, called_slot, sentiment) `+rows, args...)
}

func deltaValues(d analytics.Delta) []any {
	var agent *string
	if d.AgentID != "" {
		agent = &d.AgentID
	}
	return []any{
		d.Sign, d.Lead, agent, d.Status, d.Intent, d.Campaign, d.FollowUps, d.Contacted,
		int32(d.Created), int32(d.Converted), int32(d.Touched), int32(d.Called), d.Sentiment,
	}
}

const deltaColumns = `sign, lead, coalesce(agent_id::text, ''), status, intent, campaign, followups, contacted,
	created_slot, converted_slot, touched_slot, called_slot, sentiment`

func scanDeltas(rows pgx.Rows, each func(analytics.Delta)) error {
	defer rows.Close()
	for rows.Next() {
		var d analytics.Delta
		err := rows.Scan(&d.Sign, &d.Lead, &d.AgentID, &d.Status, &d.Intent, &d.Campaign, &d.FollowUps, &d.Contacted,
			(*int32)(&d.Created), (*int32)(&d.Converted), (*int32)(&d.Touched), (*int32)(&d.Called), &d.Sentiment)
		if err != nil {
			return fmt.Errorf("read changes of counts: %w", err)
		}
		each(d)
	}
	return rows.Err()
}

// Analytics stores the counts. It implements analytics.Store and analytics.Rollups.
type Analytics struct{ db *pg.DB }

// NewAnalytics returns the counts in the database.
func NewAnalytics(db *pg.DB) Analytics { return Analytics{db} }

// Both statements of a read see the same snapshot. The batch is one round trip.
const (
	beginSnapshot = `begin isolation level repeatable read, read only`

	// readCounts is one row per count. The days of the calendar begin at a slot of a day of UTC, so it reads what was counted before
	// that slot, and on the whole day of UTC.
	readCounts = `
		select 0, kind, key, 0, 0, n, 0::bigint from analytics_totals where scope = $1
		union all
		select 1, d.measure, '', d.day, b.slot, coalesce(d.n[b.slot], 0)::bigint, d.n[96]::bigint
		from unnest($2::text[]) m(measure) cross join unnest($3::int[], $4::int[]) b(day, slot)
		join analytics_days d on d.scope = $1 and d.measure = m.measure and d.day = b.day
		union all
		select 2, '', '', 0, 0, coalesce(sum(n[96] - case when day = $5 then coalesce(n[$6::int], 0) else 0 end), 0)::bigint, 0
		from analytics_days where scope = $1 and measure = 'touched' and day >= $5
		union all
		select 3, '', '', 0, 0, count(*), 0 from followups
		where status = 'pending' and due_date >= $7 and due_date < $8 and ($9::uuid is null or agent_id = $9)
		union all
		select 4, id::text, name, 0, 0, 0, 0 from agents where $9::uuid is null or id = $9`

	readDeltas = `select ` + deltaColumns + ` from analytics_deltas where $1::uuid is null or agent_id = $1`
)

// Read reads the counts of a scope at one moment.
func (s Analytics) Read(ctx context.Context, q analytics.Query) (analytics.Snapshot, error) {
	snapshot := analytics.Snapshot{Totals: map[analytics.Kind]map[string]int64{}, Days: map[analytics.Measure][]int64{}, Names: map[string]string{}}
	grid := newGrid(q.Calendar)
	staleDay, staleSlot := q.Stale.Day()
	from, to := q.Calendar.Today()
	agent := agentOf(q.Scope)
	var batch pgx.Batch
	batch.Queue(beginSnapshot)
	batch.Queue("set local plan_cache_mode = force_generic_plan")
	batch.Queue(readCounts, q.Scope, analytics.Daily(), grid.days, grid.slots, staleDay, staleSlot, from.Time(), to.Time(), agent)
	batch.Queue(readDeltas, agent)
	batch.Queue("commit")
	results := s.db.Pool().SendBatch(ctx, &batch)
	err := func() error {
		for range 2 {
			if _, err := results.Exec(); err != nil {
				return err
			}
		}
		rows, err := results.Query()
		if err != nil {
			return err
		}
		if err := grid.scan(rows, &snapshot); err != nil {
			return err
		}
		if rows, err = results.Query(); err != nil {
			return err
		}
		return scanDeltas(rows, func(d analytics.Delta) { snapshot.Deltas = append(snapshot.Deltas, d) })
	}()
	if closed := results.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return snapshot, fmt.Errorf("read the counts: %w", pg.Classify(err))
	}
	for _, m := range analytics.Daily() {
		snapshot.Days[m] = grid.perDay(m)
	}
	return snapshot, nil
}

// grid is the days of UTC that a calendar needs, each with the slots at which days of the calendar begin.
type grid struct {
	calendar    analytics.Calendar
	days, slots []int32
	before      map[cell]int64 // count of the day before the slot
	whole       map[cell]int64 // count of the whole day, slot 0
}

type cell struct {
	measure   analytics.Measure
	day, slot int32
}

func newGrid(c analytics.Calendar) *grid {
	g := &grid{calendar: c, before: map[cell]int64{}, whole: map[cell]int64{}}
	next := int32(-1 << 31)
	for _, start := range c.Starts {
		day, slot := start.Day()
		for ; next > -1<<31 && next < day; next++ { // days without a beginning
			g.days, g.slots = append(g.days, next), append(g.slots, 0)
		}
		g.days, g.slots = append(g.days, day), append(g.slots, int32(slot))
		next = day + 1
	}
	return g
}

func (g *grid) scan(rows pgx.Rows, to *analytics.Snapshot) error {
	defer rows.Close()
	for rows.Next() {
		var part, day, slot int32
		var a, b string
		var n, whole int64
		if err := rows.Scan(&part, &a, &b, &day, &slot, &n, &whole); err != nil {
			return err
		}
		switch part {
		case 0:
			kind := analytics.Kind(a)
			if to.Totals[kind] == nil {
				to.Totals[kind] = map[string]int64{}
			}
			to.Totals[kind][b] = n
		case 1:
			g.before[cell{analytics.Measure(a), day, slot}] = n
			g.whole[cell{analytics.Measure(a), day, 0}] = whole
		case 2:
			to.Recent = n
		case 3:
			to.Due = n
		case 4:
			to.Names[a] = b
		}
	}
	return rows.Err()
}

// perDay returns the counts of each day of the calendar.
func (g *grid) perDay(m analytics.Measure) []int64 {
	counts := make([]int64, len(g.calendar.Days))
	for i := range counts {
		day, slot := g.calendar.Starts[i].Day()
		endDay, endSlot := g.calendar.Starts[i+1].Day()
		counts[i] = g.before[cell{m, endDay, int32(endSlot)}] - g.before[cell{m, day, int32(slot)}]
		for ; day < endDay; day++ {
			counts[i] += g.whole[cell{m, day, 0}]
		}
	}
	return counts
}

// lockFold takes the lock of those who change what was folded. One replica at a time has it.
const lockFold = `select pg_try_advisory_xact_lock(hashtextextended('analytics ' || current_schema(), 0))`

// Fold adds the deltas to the folded counts in one transaction, and returns how many there were. It does nothing while another
// replica folds.
func (s Analytics) Fold(ctx context.Context) (n int, err error) {
	var any bool
	if err := s.db.Conn(ctx).QueryRow(ctx, `select exists (select from analytics_deltas)`).Scan(&any); err != nil || !any {
		return 0, pg.Classify(err)
	}
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		n = 0
		conn := s.db.Conn(ctx)
		var locked bool
		if err := conn.QueryRow(ctx, lockFold).Scan(&locked); err != nil || !locked {
			return err
		}
		rows, err := conn.Query(ctx, `delete from analytics_deltas where id in (select id from analytics_deltas order by id limit $1) returning `+deltaColumns, analytics.FoldLimit)
		if err != nil {
			return err
		}
		rollup := analytics.NewRollup()
		if err := scanDeltas(rows, func(d analytics.Delta) { rollup.Add(d); n++ }); err != nil {
			return err
		}
		return s.apply(ctx, rollup)
	})
	if err != nil {
		return 0, fmt.Errorf("fold the counts: %w", pg.Classify(err))
	}
	return n, nil
}

// Vacuum removes the rows of folded deltas, which every read would pass otherwise.
func (s Analytics) Vacuum(ctx context.Context) error {
	if _, err := s.db.Pool().Exec(ctx, `vacuum (truncate false) analytics_deltas`); err != nil {
		return fmt.Errorf("vacuum the changes of counts: %w", pg.Classify(err))
	}
	return nil
}

// applyChunk is how many rows one statement writes.
const applyChunk = 2000

// apply adds a sum to the folded counts. The transaction must have the lock.
func (s Analytics) apply(ctx context.Context, r *analytics.Rollup) error {
	r.Compact()
	var scopes, kinds, keys []string
	var counts []int64
	totals := func() error {
		_, err := s.db.Conn(ctx).Exec(ctx, `
			insert into analytics_totals select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[])
			on conflict (scope, kind, key) do update set n = analytics_totals.n + excluded.n`, scopes, kinds, keys, counts)
		scopes, kinds, keys, counts = nil, nil, nil, nil
		return err
	}
	for id, n := range r.Totals {
		scopes, kinds, keys, counts = append(scopes, id.Scope), append(kinds, string(id.Kind)), append(keys, id.Key), append(counts, n)
		if len(counts) == applyChunk {
			if err := totals(); err != nil {
				return err
			}
		}
	}
	if len(counts) > 0 {
		if err := totals(); err != nil {
			return err
		}
	}
	var measures, arrays []string
	var days []int32
	write := func() error {
		_, err := s.db.Conn(ctx).Exec(ctx, `
			insert into analytics_days select scope, measure, day, n::int[] from unnest($1::uuid[], $2::text[], $3::int[], $4::text[]) as u(scope, measure, day, n)
			on conflict (scope, measure, day) do update set n = analytics_sum(analytics_days.n, excluded.n)`, scopes, measures, days, arrays)
		scopes, measures, days, arrays = nil, nil, nil, nil
		return err
	}
	for id, day := range r.Days {
		scopes, measures, days, arrays = append(scopes, id.Scope), append(measures, string(id.Measure)), append(days, id.Day), append(arrays, arrayText(analytics.Cumulative(day)))
		if len(days) == applyChunk {
			if err := write(); err != nil {
				return err
			}
		}
	}
	if len(days) > 0 {
		return write()
	}
	return nil
}

func arrayText(numbers []int32) string {
	b := make([]byte, 0, 4*len(numbers))
	b = append(b, '{')
	for i, n := range numbers {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return string(append(b, '}'))
}

// Drift counts the leads and calls anew and returns the difference to the stored counts. All of it is of one snapshot, and it locks
// nothing. It reads every lead and call.
func (s Analytics) Drift(ctx context.Context) (*analytics.Rollup, error) {
	var rollup *analytics.Rollup
	err := s.db.InTx(ctx, func(ctx context.Context) error {
		rollup = analytics.NewRollup()
		conn := s.db.Conn(ctx)
		for _, set := range []string{`set transaction isolation level repeatable read, read only`, `set local statement_timeout = '10min'`} {
			if _, err := conn.Exec(ctx, set); err != nil {
				return err
			}
		}
		for _, facts := range []string{leadFacts, callFacts} {
			rows, err := conn.Query(ctx, facts)
			if err != nil {
				return err
			}
			if err := scanDeltas(rows, rollup.Add); err != nil {
				return err
			}
		}
		rows, err := conn.Query(ctx, `select `+deltaColumns+` from analytics_deltas`)
		if err != nil {
			return err
		}
		if err := scanDeltas(rows, func(d analytics.Delta) { d.Sign = -d.Sign; rollup.Add(d) }); err != nil {
			return err
		}
		if rows, err = conn.Query(ctx, `select scope::text, kind, key, n from analytics_totals`); err != nil {
			return err
		}
		if err := subtractTotals(rows, rollup); err != nil {
			return err
		}
		if rows, err = conn.Query(ctx, `select scope::text, measure, day, n from analytics_days`); err != nil {
			return err
		}
		return subtractDays(rows, rollup)
	})
	if err != nil {
		return nil, fmt.Errorf("count anew: %w", pg.Classify(err))
	}
	rollup.Compact()
	return rollup, nil
}

// The facts of all leads and calls, as deltas: see analytics.OfLead and OfCall.
const (
	noSlot = `(-2147483648)`

	leadFacts = `
		select 1::smallint, true, coalesce(assigned_agent_id::text, ''), status, intent_category, coalesce(source_campaign, ''), followup_count,
			last_contacted_at is not null, floor(extract(epoch from created_at) / 900)::int,
			coalesce(floor(extract(epoch from converted_at) / 900)::int, ` + noSlot + `),
			case when status in ('converted', 'lost') then ` + noSlot + ` else floor(extract(epoch from coalesce(last_contacted_at, created_at)) / 900)::int end,
			` + noSlot + `, ''
		from leads`

	callFacts = `
		select 1::smallint, false, agent_id::text, '', '', '', 0, false, ` + noSlot + `, ` + noSlot + `, ` + noSlot + `,
			coalesce(floor(extract(epoch from called_at) / 900)::int, ` + noSlot + `), coalesce(sentiment, '')
		from calls where not deleted`
)

func subtractTotals(rows pgx.Rows, from *analytics.Rollup) error {
	defer rows.Close()
	for rows.Next() {
		var id analytics.TotalID
		var n int64
		if err := rows.Scan(&id.Scope, &id.Kind, &id.Key, &n); err != nil {
			return err
		}
		from.Totals[id] -= n
	}
	return rows.Err()
}

func subtractDays(rows pgx.Rows, from *analytics.Rollup) error {
	defer rows.Close()
	var sums []int32
	for rows.Next() {
		var id analytics.DayID
		if err := rows.Scan(&id.Scope, &id.Measure, &id.Day, &sums); err != nil {
			return err
		}
		day, before := from.Day(id), int32(0)
		for i, sum := range sums {
			day[i] -= sum - before
			before = sum
		}
	}
	return rows.Err()
}

// Correct adds a difference to the folded counts. A difference stays right while the counts change, because it is added.
func (s Analytics) Correct(ctx context.Context, difference *analytics.Rollup) error {
	err := s.db.InTx(ctx, func(ctx context.Context) error {
		if _, err := s.db.Conn(ctx).Exec(ctx, strings.Replace(lockFold, "_try", "", 1)); err != nil {
			return err
		}
		return s.apply(ctx, difference)
	})
	return pg.Classify(err)
}

// ClaimRepair reports whether the counts have to be compared now, which is at most once per period on all replicas together.
func (s Analytics) ClaimRepair(ctx context.Context, period time.Duration) (bool, error) {
	tag, err := s.db.Conn(ctx).Exec(ctx, `update analytics_state set repaired_at = now() where repaired_at < now() - $1::interval`, period)
	if err != nil {
		return false, fmt.Errorf("claim the comparison of the counts: %w", pg.Classify(err))
	}
	return tag.RowsAffected() > 0, nil
}

// ReleaseRepair makes the next ClaimRepair succeed, after a comparison that failed.
func (s Analytics) ReleaseRepair(ctx context.Context) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `update analytics_state set repaired_at = '-infinity'`)
	return pg.Classify(err)
}
