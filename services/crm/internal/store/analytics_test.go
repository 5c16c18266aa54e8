package store_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/store"
)

// desk is a database with the stores whose changes are counted, and a copy of what they should have.
type desk struct {
	db    *pg.DB
	clock *clock.Manual
	leads lead.Store
	calls interface {
		Upsert(ctx context.Context, c followup.Call) error
	}
	followups  followup.Store
	counts     store.Analytics
	aggregator *analytics.Aggregator
	service    *analytics.Service
	agents     []string

	lead     []string // ids
	called   []followup.Call
	promised []string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	db := pgtest.Open(t, outbox.Migrations(), store.Migrations())
	out := outbox.New(db, telemetry.Nop())
	d := &desk{
		db: db, clock: clock.At(time.Date(2026, 3, 28, 22, 40, 0, 0, time.UTC)), // clocks change in Europe on the next day
		leads: store.Leads(db, out), calls: store.Calls(db), followups: store.FollowUps(db, out), counts: store.NewAnalytics(db),
	}
	d.aggregator = &analytics.Aggregator{Rollups: d.counts}
	d.service = &analytics.Service{Store: d.counts, Zone: func(context.Context) (*time.Location, error) { return time.UTC, nil }, Clock: d.clock}
	for i := range 3 {
		id := event.NewID()
		d.agents = append(d.agents, id)
		require.NoError(t, store.Agents(db).Upsert(t.Context(), agent.Agent{ID: id, Version: 1, Name: fmt.Sprint("Agent ", i), Active: true}))
	}
	slices.Sort(d.agents)
	return d
}

// check compares the overview with a count of the tables.
func (d *desk) check(t require.TestingT, ctx context.Context, req analytics.Request, as string) {
	caller := identity.Caller{AgentID: as, Role: identity.Agent}
	if as == "" {
		caller = identity.Caller{AgentID: event.NewID(), Role: identity.Admin}
		req.Scope = "team"
	}
	got, err := d.service.Overview(identity.With(ctx, caller), req)
	require.NoError(t, err)
	want, err := d.count(ctx, req, as)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want, got))
}

// count computes the overview from the tables, with PostgreSQL's time zones.
func (d *desk) count(ctx context.Context, req analytics.Request, as string) (o analytics.Overview, err error) {
	var scope *string
	if as != "" {
		scope = &as
	}
	one := func(to any, sql string, args ...any) {
		if err == nil {
			err = d.db.Conn(ctx).QueryRow(ctx, sql, args...).Scan(to)
		}
	}
	const mine, talked = `($1::uuid is null or assigned_agent_id = $1)`, `not deleted and ($1::uuid is null or agent_id = $1)`
	pairs := func(sql string) map[string]int64 {
		counts := map[string]int64{}
		one(&counts, `select coalesce(jsonb_object_agg(k, n), '{}') from (`+sql+`) x`, scope)
		return counts
	}
	one(&o.TotalLeads, `select count(*) from leads where `+mine, scope)
	one(&o.TotalConversions, `select count(*) from leads where status = 'converted' and `+mine, scope)
	o.LeadsByStatus = pairs(`select status k, count(*) n from leads where ` + mine + ` group by 1`)
	o.LeadsByIntent = pairs(`select intent_category k, count(*) n from leads where ` + mine + ` group by 1`)
	o.LeadsByCampaign = pairs(`select coalesce(source_campaign, 'Unknown') k, count(*) n from leads where ` + mine + ` group by 1`)
	for _, s := range lead.Statuses() {
		o.LeadsByStatus[string(s)] += 0
	}
	for _, i := range lead.Intents() {
		o.LeadsByIntent[string(i)] += 0
	}
	list := func(to any, sql string, args ...any) {
		one(to, `select coalesce(jsonb_agg(to_jsonb(x)), '[]') from (`+sql+`) x`, append([]any{scope}, args...)...)
	}
	const rate = `coalesce(round(100.0 * count(*) filter (where status = 'converted') / nullif(count(*), 0), 1), 0)`
	list(&o.CampaignBreakdown, `select coalesce(source_campaign, 'Unknown') campaign, count(*) leads, count(*) filter (where status = 'converted') converted, `+rate+` conversion_rate
		from leads where `+mine+` group by 1 order by 2 desc, 1`)
	list(&o.IntentDistribution, `select intent_category intent, count(*) count from leads where `+mine+` group by 1 order by 2 desc, 1`)
	one(&o.ConversionRate, `select `+rate+` from leads where `+mine, scope)
	now := d.clock.Now()
	const days = ` from generate_series((($3::timestamptz at time zone $2)::date - ($4 - 1)::int)::timestamp, ($3::timestamptz at time zone $2)::date::timestamp, '1 day') d `
	const dates = `to_char(d, 'Mon DD') date, to_char(d, 'YYYY-MM-DD') as day, `
	on := func(column, rest string) string {
		return `count(*) from ` + rest + ` and (` + column + ` at time zone $2)::date = d::date`
	}
	list(&o.DailyStats, `select `+dates+`(select `+on("created_at", "leads where "+mine)+`) new_leads, (select `+on("called_at", "calls where "+talked)+`) calls_made,
		(select `+on("converted_at", "leads where status = 'converted' and "+mine)+`) conversions `+days+` order by d`, req.TZ, now, req.Days)
	list(&o.SentimentByDay, `select `+dates+`(select `+on("called_at", "calls where sentiment = 'positive' and "+talked)+`) positive,
		(select `+on("called_at", "calls where sentiment = 'neutral' and "+talked)+`) neutral, (select `+on("called_at", "calls where sentiment = 'negative' and "+talked)+`) negative`+days+` order by d`, req.TZ, now, req.Days)
	one(&o.TotalCallsToday, `select count(*) from calls where `+talked+` and (called_at at time zone $2)::date = ($3::timestamptz at time zone $2)::date`, scope, req.TZ, now)
	one(&o.StaleLeadsCount, `select count(*) from leads where status not in ('converted', 'lost') and `+mine+`
		and (coalesce(last_contacted_at, created_at) at time zone $2)::date < ($3::timestamptz at time zone $2)::date - 7`, scope, req.TZ, now)
	one(&o.FollowUpsDueToday, `select count(*) from followups where status = 'pending' and ($1::uuid is null or agent_id = $1)
		and (due_date at time zone $2)::date = ($3::timestamptz at time zone $2)::date`, scope, req.TZ, now)
	one(&o.LeadsWithoutContact, `select count(*) from leads where last_contacted_at is null and `+mine, scope)
	one(&o.AvgFollowUpCount, `select coalesce(round(avg(followup_count), 2), 0) from leads where `+mine, scope)
	list(&o.StatusFunnel, `select s stage, count(l.*) count, coalesce(round(100.0 * count(l.*) / nullif((select count(*) from leads where `+mine+`), 0), 1), 0) pct
		from (select s, i from unnest($2::text[]) with ordinality u(s, i) union select distinct status, 1000 from leads where `+mine+` and status <> all ($2)) stages
		left join leads l on l.status = s and `+mine+` group by s, i order by i, s`, lead.Statuses())
	const perAgent = `(select count(*) from calls where not deleted and agent_id = a.id) calls_made, (select count(*) from leads where assigned_agent_id = a.id) leads_assigned,
		(select count(*) from leads where assigned_agent_id = a.id and status = 'converted') conversions,
		(select ` + rate + ` from leads where assigned_agent_id = a.id) conversion_rate`
	list(&o.AgentStats, `select * from (select a.id agent_id, a.name agent_name, `+perAgent+` from agents a where $1::uuid is null or a.id = $1) s
		where $1 is not null or calls_made + leads_assigned > 0 order by conversions desc, calls_made desc, agent_id`)
	return o, err
}

var zones = []string{"UTC", "Asia/Kolkata", "Asia/Kathmandu", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Australia/Lord_Howe", "America/St_Johns"}

func (d *desk) request(t *rapid.T) (analytics.Request, string) {
	as := ""
	if rapid.Bool().Draw(t, "an agent's") {
		as = rapid.SampledFrom(d.agents).Draw(t, "as")
	}
	return analytics.Request{Days: rapid.IntRange(1, 20).Draw(t, "days"), TZ: rapid.SampledFrom(zones).Draw(t, "tz")}, as
}

// TestTheOverviewIsTheCountOfTheTables changes leads, calls and follow-ups at random, folds at random moments, and compares.
func TestTheOverviewIsTheCountOfTheTables(t *testing.T) {
	t.Parallel()
	d, ctx := newDesk(t), t.Context()
	rapid.Check(t, func(rt *rapid.T) {
		rt.Repeat(map[string]func(*rapid.T){
			"new lead":     func(rt *rapid.T) { d.newLead(ctx, rt) },
			"change lead":  func(rt *rapid.T) { d.changeLead(ctx, rt) },
			"change all":   func(rt *rapid.T) { d.changeLeads(ctx, rt) },
			"remove lead":  func(rt *rapid.T) { d.removeLead(ctx, rt) },
			"call":         func(rt *rapid.T) { d.call(ctx, rt) },
			"replay calls": func(rt *rapid.T) { d.replay(ctx, rt) },
			"follow-up":    func(rt *rapid.T) { d.followUp(ctx, rt) },
			"complete":     func(rt *rapid.T) { d.complete(ctx, rt) },
			"time passes":  func(rt *rapid.T) { d.clock.Advance(time.Duration(rapid.IntRange(1, 40).Draw(rt, "hours")) * time.Hour) },
			"fold": func(rt *rapid.T) {
				_, err := d.counts.Fold(ctx)
				require.NoError(rt, err)
			},
			"recompute": func(rt *rapid.T) {
				wrong, err := d.aggregator.Recompute(ctx)
				require.NoError(rt, err)
				require.Zero(rt, wrong, "nothing had to be corrected")
			},
			"": func(rt *rapid.T) {
				if rapid.IntRange(0, 2).Draw(rt, "compare") > 0 {
					return // a wrong count remains wrong, so not every state has to be compared
				}
				req, as := d.request(rt)
				d.check(rt, ctx, req, as)
			},
		})
	})
}

func (d *desk) draw(t *rapid.T, l *lead.Lead) {
	agents := append([]string{""}, d.agents...)
	l.AssignedAgentID = nil
	if id := rapid.SampledFrom(agents).Draw(t, "agent"); id != "" {
		l.AssignedAgentID = &id
	}
	l.Name = "Priya"
	l.Status = rapid.SampledFrom(append(lead.Statuses(), "visited")).Draw(t, "status")
	l.IntentCategory = rapid.SampledFrom(lead.Intents()).Draw(t, "intent")
	l.SourceCampaign = rapid.SampledFrom([]*string{nil, new("Diwali"), new("Holi")}).Draw(t, "campaign")
	l.FollowUpCount = rapid.IntRange(0, 3).Draw(t, "attempts")
	l.LastContactedAt = nil
	if rapid.Bool().Draw(t, "contacted") {
		l.LastContactedAt = new(d.around(t))
	}
}

// around returns a time near now, often at the beginning of a slot.
func (d *desk) around(t *rapid.T) time.Time {
	at := d.clock.Now().Add(time.Duration(rapid.IntRange(-400, 30).Draw(t, "hours")) * time.Hour)
	return at.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 299_999_999, 300_000_000, 899_999_999}).Draw(t, "µs")) * time.Microsecond)
}

func (d *desk) newLead(ctx context.Context, t *rapid.T) {
	var l lead.Lead
	d.draw(t, &l)
	l, imported := lead.Create(l.Fields, nil, new("unknown"), l.AssignedAgentID, d.clock.Now())
	require.NoError(t, d.leads.Create(ctx, l, imported))
	d.lead = append(d.lead, l.ID)
}

func (d *desk) edit(t *rapid.T, l *lead.Lead) event.Event {
	before := l.IntentCategory
	d.draw(t, l)
	return l.Edited(before, d.clock.Now())
}

func (d *desk) pick(t *rapid.T, ids []string) string {
	if len(ids) == 0 {
		t.Skip("none yet")
	}
	return rapid.SampledFrom(ids).Draw(t, "id")
}

func (d *desk) changeLead(ctx context.Context, t *rapid.T) {
	_, err := d.leads.Change(ctx, d.pick(t, d.lead), func(l *lead.Lead) ([]event.Event, error) { return []event.Event{d.edit(t, l)}, nil })
	require.NoError(t, err)
}

func (d *desk) changeLeads(ctx context.Context, t *rapid.T) {
	ids := slices.Clone(d.lead[:min(len(d.lead), rapid.IntRange(0, 5).Draw(t, "n"))])
	_, err := d.leads.ChangeAll(ctx, ids, func(l *lead.Lead) (lead.Outcome, []event.Event, error) {
		switch outcome := rapid.SampledFrom([]lead.Outcome{lead.Unchanged, lead.Saved, lead.Removed}).Draw(t, "outcome"); outcome {
		case lead.Saved:
			return outcome, []event.Event{d.edit(t, l)}, nil
		case lead.Removed:
			d.lead = slices.DeleteFunc(d.lead, func(id string) bool { return id == l.ID })
			return outcome, nil, nil
		default:
			return outcome, nil, nil
		}
	})
	require.NoError(t, err)
}

func (d *desk) removeLead(ctx context.Context, t *rapid.T) {
	id := d.pick(t, d.lead)
	require.NoError(t, d.leads.Remove(ctx, id, func(*lead.Lead) ([]event.Event, error) { return nil, nil }))
	d.lead = slices.DeleteFunc(d.lead, func(other string) bool { return other == id })
}

// call stores a new version of a call, with gaps between versions, or a new call.
func (d *desk) call(ctx context.Context, t *rapid.T) {
	c := followup.Call{ID: event.NewID(), AgentID: rapid.SampledFrom(d.agents).Draw(t, "agent"), Status: "completed"}
	if len(d.called) > 0 && rapid.Bool().Draw(t, "again") {
		c = rapid.SampledFrom(d.called).Draw(t, "call")
	}
	c.Version += int64(rapid.IntRange(1, 3).Draw(t, "versions"))
	c.CalledAt = nil
	if rapid.IntRange(0, 9).Draw(t, "dated") > 0 {
		c.CalledAt = new(d.around(t))
	}
	c.Sentiment = rapid.SampledFrom([]*string{nil, new("positive"), new("neutral"), new("negative")}).Draw(t, "sentiment")
	c.Deleted = rapid.IntRange(0, 9).Draw(t, "deleted") == 0
	require.NoError(t, d.calls.Upsert(ctx, c))
	d.called = append(d.called, c)
}

// replay stores versions of calls again, old and new ones in any order.
func (d *desk) replay(ctx context.Context, t *rapid.T) {
	for range min(len(d.called), 5) {
		require.NoError(t, d.calls.Upsert(ctx, rapid.SampledFrom(d.called).Draw(t, "call")))
	}
}

func (d *desk) followUp(ctx context.Context, t *rapid.T) {
	now := d.clock.Now()
	x := followup.FollowUp{
		ID: event.NewID(), CallID: event.NewID(), AgentID: rapid.SampledFrom(d.agents).Draw(t, "agent"), DueDate: new(d.around(t)), Status: followup.Pending,
		Source: followup.ByAgent, Version: 1, CreatedAt: now, UpdatedAt: now,
	}
	_, err := d.followups.Create(ctx, x, func(*followup.FollowUp) []event.Event { return nil })
	require.NoError(t, err)
	d.promised = append(d.promised, x.ID)
}

func (d *desk) complete(ctx context.Context, t *rapid.T) {
	_, err := d.followups.Change(ctx, d.pick(t, d.promised), func(x *followup.FollowUp) ([]event.Event, error) {
		x.Status = followup.Completed
		return nil, nil
	})
	require.NoError(t, err)
}

// TestReadsAreConsistentWhileLeadsAreWrittenAndFolded has writers that move leads between agents and statuses, so that the sums of
// a consistent read never change.
func TestReadsAreConsistentWhileLeadsAreWrittenAndFolded(t *testing.T) {
	t.Parallel()
	d, ctx := newDesk(t), t.Context()
	const leads, writers, changes = 40, 4, 60
	for range leads {
		l, imported := lead.Create(lead.Fields{Name: "Priya"}, nil, new("unknown"), &d.agents[0], d.clock.Now())
		require.NoError(t, d.leads.Create(ctx, l, imported))
		d.lead = append(d.lead, l.ID)
	}
	var writing errgroup.Group
	var done atomic.Bool
	for w := range writers {
		writing.Go(func() error {
			for i := range changes {
				id := d.lead[(i*7+w*11)%leads]
				_, err := d.leads.Change(ctx, id, func(l *lead.Lead) ([]event.Event, error) {
					before := l.IntentCategory
					l.AssignedAgentID = &d.agents[(i+w)%len(d.agents)]
					l.Status = lead.Statuses()[(i+w)%len(lead.Statuses())]
					return []event.Event{l.Edited(before, d.clock.Now())}, nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	var watching errgroup.Group
	watching.Go(func() error {
		for !done.Load() {
			if err := d.aggregator.Fold(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	watching.Go(func() error {
		for !done.Load() {
			if difference, err := d.counts.Drift(ctx); err != nil || difference.Compact() > 0 {
				return fmt.Errorf("a recomputation differs: %v %w", difference, err)
			}
		}
		return nil
	})
	admin := identity.With(ctx, identity.Caller{AgentID: event.NewID(), Role: identity.Admin})
	watching.Go(func() error {
		for !done.Load() {
			o, err := d.service.Overview(admin, analytics.Request{TZ: "Asia/Kolkata"})
			if err != nil {
				return err
			}
			var assigned, stages, converted int64
			for _, a := range o.AgentStats {
				assigned, converted = assigned+a.LeadsAssigned, converted+a.Conversions
			}
			for _, s := range o.StatusFunnel {
				stages += s.Count
			}
			today := o.DailyStats[len(o.DailyStats)-1]
			if o.TotalLeads != leads || assigned != leads || stages != leads || today.NewLeads != leads || converted != o.TotalConversions || today.Conversions != o.TotalConversions {
				return fmt.Errorf("inconsistent: %+v", o)
			}
		}
		return nil
	})
	err := writing.Wait()
	done.Store(true)
	require.NoError(t, err)
	require.NoError(t, watching.Wait())
	d.check(t, ctx, analytics.Request{Days: 3, TZ: "UTC"}, "")
	d.check(t, ctx, analytics.Request{Days: 3, TZ: "UTC"}, d.agents[1])
}

func TestARecomputationCorrectsTheCounts(t *testing.T) {
	t.Parallel()
	d, ctx := newDesk(t), t.Context()
	for range 5 {
		l, imported := lead.Create(lead.Fields{Name: "Priya"}, nil, new("unknown"), &d.agents[0], d.clock.Now())
		require.NoError(t, d.leads.Create(ctx, l, imported))
	}
	require.NoError(t, d.aggregator.Fold(ctx))
	for _, sql := range []string{
		`update analytics_totals set n = n + 3 where kind = 'status'`, `delete from analytics_days where measure = 'touched'`,
		`update leads set status = 'lost' where id in (select id from leads limit 2)`, // behind the store's back
	} {
		_, err := d.db.Conn(ctx).Exec(ctx, sql)
		require.NoError(t, err)
	}
	reported := -1
	d.aggregator.Compared = func(_ context.Context, wrong int) { reported = wrong }
	require.NoError(t, d.aggregator.Repair(ctx))
	require.Positive(t, reported)
	d.check(t, ctx, analytics.Request{Days: 3, TZ: "UTC"}, "")
	d.check(t, ctx, analytics.Request{Days: 3, TZ: "UTC"}, d.agents[0])

	reported = -1
	require.NoError(t, d.aggregator.Repair(ctx))
	require.Equal(t, -1, reported, "once a day")
	wrong, err := d.aggregator.Recompute(ctx)
	require.NoError(t, err)
	require.Zero(t, wrong)
	require.Zero(t, reported)
}
