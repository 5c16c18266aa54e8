package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
	"github.com/convoflow/convoflow/services/crm/internal/client"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/seed"
	"github.com/convoflow/convoflow/services/crm/internal/store"
	"github.com/convoflow/convoflow/services/crm/internal/timeline"
)

// seeded is a database with many made-up rows.
func seeded(t testing.TB, leads, calls int) (*pg.DB, seed.Team) {
	t.Helper()
	db := pgtest.Open(t, outbox.Migrations(), store.Migrations())
	team := seed.Team{Seed: 7, Agents: 20, Leads: leads, Now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}
	to, ctx := store.NewSeeder(db), t.Context()
	var rows []lead.Lead
	for n := range leads {
		rows = append(rows, team.Lead(n))
	}
	chunk := 0
	for part := range slices.Chunk(rows, 5000) {
		wrote, err := to.Leads(ctx, team.Seed, chunk, part)
		require.NoError(t, err)
		require.True(t, wrote)
		chunk++
	}
	wrote, err := to.Leads(ctx, team.Seed, 0, rows[:5000])
	require.NoError(t, err)
	require.False(t, wrote, "a chunk is written once")
	for first := 0; first < calls; first += 5000 {
		var called []followup.Call
		var promised []followup.FollowUp
		for n := first; n < min(first+5000, calls); n++ {
			if c, ok := team.Call(n); ok {
				called = append(called, c)
			}
			if x, ok := team.FollowUp(n, n); ok {
				promised = append(promised, x)
			}
		}
		_, err = to.Calls(ctx, team.Seed, first, called)
		require.NoError(t, err)
		_, err = to.FollowUps(ctx, team.Seed, first, promised)
		require.NoError(t, err)
	}
	require.NoError(t, to.Finish(ctx))
	return db, team
}

// sequential returns the large tables that do reads by sequential scans.
func sequential(t *testing.T, db *pg.DB, do func(ctx context.Context) error) map[string]int64 {
	t.Helper()
	return pgtest.Read(t.Context(), t, db, do).Scanned("leads", "calls", "followups", "clients", "timeline")
}

func TestNoListReadsAWholeTable(t *testing.T) {
	t.Parallel()
	db, team := seeded(t, 15_000, 30_000)
	clientID, out := people(t, db, team, 15_000), outbox.New(db, telemetry.Nop())
	t.Run("leads", func(t *testing.T) { t.Parallel(); listLeads(t, db, out, team) })
	t.Run("clients and follow-ups", func(t *testing.T) { t.Parallel(); listPeople(t, db, out, team, clientID) })
}

func listLeads(t *testing.T, db *pg.DB, out *outbox.Outbox, team seed.Team) {
	t.Helper()
	leads, counts := store.Leads(db, out), store.NewAnalytics(db)
	require.Equal(t, map[string]int64{"leads": 15_000}, sequential(t, db, func(ctx context.Context) error {
		_, err := db.Conn(ctx).Exec(ctx, `select count(notes) from leads`)
		return err
	}), "the test sees one")

	busy := team.Agent(5).ID
	filters := map[string]lead.Filter{
		"all": {}, "of an agent": {AgentID: busy}, "of nobody": {Unassigned: true}, "status": {Status: "qualified"}, "usual status": {Status: "new"},
		"intent": {IntentCategory: "interested"}, "campaign": {Campaign: "Walk-in"}, "search": {Q: "lead4711."}, "search a phone": {Q: "4711"}, "search, none": {Q: "zzzz"},
		"status of an agent": {AgentID: busy, Status: "converted"}, "intent of an agent": {AgentID: busy, IntentCategory: "undecided"},
		"campaign of an agent": {AgentID: busy, Campaign: "Referral"}, "search of an agent": {AgentID: busy, Q: "priya"}, "two letters": {Q: "pr"}, "two rare letters": {Q: "zz"},
		"two rare letters of an agent": {AgentID: busy, Q: "zz"}, "one letter": {Q: "p"}, "one rare letter": {Q: "|"},
		"untouched": {UntouchedSince: &team.Now}, "untouched of an agent": {AgentID: busy, UntouchedSince: &team.Now},
	}
	orders := []string{"default", "created_at", "updated_at", "name", "next_followup_at", "callback_scheduled_at", "last_contacted_at", "followup_count"}
	for name, f := range filters {
		for _, by := range append(orders, "callbacks") {
			for _, desc := range []bool{false, true} {
				if f.AgentID == "" && by == "callbacks" || desc && by == "callbacks" {
					continue // GET /leads/my is of one agent
				}
				f.Order, f.Request = lead.Order{By: by, Desc: desc}, page.Request{Limit: 50}
				what := fmt.Sprintf("%s by %s, descending %v", name, by, desc)
				var next string
				assert.Empty(t, sequential(t, db, func(ctx context.Context) error {
					p, err := leads.List(ctx, f)
					next = p.Next
					return err
				}), what)
				if f.Cursor = next; next == "" {
					continue
				}
				assert.Empty(t, sequential(t, db, func(ctx context.Context) error {
					_, err := leads.List(ctx, f)
					return err
				}), "page 2 of "+what)
			}
		}
	}
	require.Empty(t, sequential(t, db, func(ctx context.Context) error {
		_, err := leads.FindByPhone(ctx, *team.Lead(4711).Phone)
		return err
	}))

	aggregator := analytics.Aggregator{Rollups: counts}
	_, err := aggregator.Recompute(t.Context())
	require.NoError(t, err)
	var none *string
	week := team.Now.AddDate(0, 0, -7)
	for _, agentID := range []*string{none, &busy} {
		scope := analytics.Team
		if agentID != nil {
			scope = *agentID
		}
		for name, plan := range map[string]string{
			"counts": pgtest.Explain(t, db, store.ReadCounts, scope, analytics.Daily(), []int32{20700, 20701}, []int32{74, 74}, int32(20700), int32(74), week, team.Now, agentID),
			"agents": pgtest.Explain(t, db, store.ReadLeaderboard, agentID, week, team.Now),
			"topics": pgtest.Explain(t, db, store.ReadMentions, agentID, []time.Time{week, team.Now}, week, team.Now, 20),
		} {
			for _, table := range []string{"leads", "calls", "followups", "analytics_days"} {
				require.NotContains(t, plan, "Seq Scan on "+table, name)
			}
		}
	}
}

// people adds clients to a seeded database, some with each agent, and what happened to them and to leads. It returns the id of one.
func people(t *testing.T, db *pg.DB, team seed.Team, n int) (clientID string) {
	t.Helper()
	var agents []string
	for i := range team.Agents {
		agents = append(agents, team.Agent(i).ID)
	}
	pgtest.Fill(t, db,
		fmt.Sprintf(`with a as (select '{%s}'::uuid[] as ids)
			insert into clients (id, agent_id, name, email, phone, company, version, created_at, updated_at)
			select gen_random_uuid(), a.ids[1 + i %% cardinality(a.ids)], 'Client ' || i, 'client' || i || '@example.com', '+9198' || lpad(i::text, 8, '0'),
				'Company ' || i %% 1000, 1, now() - i * interval '1 minute', now() from a, generate_series(1, %d) i`, strings.Join(agents, ","), n),
		`update followups f set client_id = c.id from (select id, row_number() over (order by created_at) as n from clients) c,
			(select id, row_number() over (order by id) as n from followups) x where x.id = f.id and c.n = x.n`,
		`insert into timeline (id, version, kind, at, client_id, agent_id)
			select gen_random_uuid(), 1, 'change', now() - n * interval '1 hour', id, agent_id from clients, generate_series(1, 3) n`,
		`insert into timeline (id, version, kind, at, lead_id) select gen_random_uuid(), 1, 'change', now(), id from leads`,
		`vacuum analyze clients, followups, timeline`)
	return pgtest.Column[string](t, db, `select client_id::text from followups where client_id is not null limit 1`)[0]
}

func listPeople(t *testing.T, db *pg.DB, out *outbox.Outbox, team seed.Team, clientID string) {
	t.Helper()
	busy := team.Agent(5).ID
	clients, followups, items := store.Clients(db, out), store.FollowUps(db, out), store.Timeline(db)
	lists := map[string]func(ctx context.Context, r page.Request) (next string, err error){}
	for _, agentID := range []string{"", busy} {
		for q, found := range map[string]int{"": 50, "client 4711": 1, "company 47": 50, "example.com": 50, "00004711": 2, "98 0000 4711": 1, "zzzz": 0, "47": 0, "zz": 0, "C": 50} {
			lists[fmt.Sprintf("clients: %q of %q", q, agentID)] = func(ctx context.Context, r page.Request) (string, error) {
				p, err := clients.List(ctx, client.Filter{AgentID: agentID, Q: q, Request: r})
				if agentID == "" && r.Cursor == "" {
					assert.Len(t, p.Items, found, q)
				}
				return p.Next, err
			}
		}
		x, _ := team.FollowUp(1, 1)
		early, late := team.Now.AddDate(0, -5, 0), team.Now.AddDate(0, 1, 0)
		filters := map[string]followup.ListRequest{
			"all": {}, "of a call": {CallID: x.CallID}, "of a client": {ClientID: clientID}, "of no client": {ClientID: x.CallID},
			"open": {Completed: new(false)}, "completed": {Completed: new(true)}, "overdue": {Overdue: new(true)}, "not overdue": {Overdue: new(false)},
			"due before": {DueBefore: &team.Now}, "due early": {DueBefore: &early}, "due after": {DueAfter: &team.Now}, "due late": {DueAfter: &late},
			"due between": {DueAfter: &team.Now, DueBefore: &late}, "open of a client": {ClientID: clientID, Completed: new(false)},
		}
		for _, status := range []followup.Status{followup.Suggested, followup.Pending, followup.Completed, followup.Dismissed} {
			filters[string(status)] = followup.ListRequest{Status: status}
		}
		for name, f := range filters {
			lists[fmt.Sprintf("follow-ups: %s of %q", name, agentID)] = func(ctx context.Context, r page.Request) (string, error) {
				f.Request = r
				p, err := followups.List(ctx, followup.Filter{AgentID: agentID, Now: team.Now, ListRequest: f})
				return p.Next, err
			}
		}
	}
	for name, f := range map[string]timeline.Filter{"of a client": {ClientID: clientID}, "of a lead": {LeadID: team.Lead(17).ID}} {
		lists["timeline "+name] = func(ctx context.Context, r page.Request) (string, error) {
			f.Request = r
			p, err := items.List(ctx, f)
			return p.Next, err
		}
	}
	for name, list := range lists {
		r := page.Request{Limit: 50}
		for n := 1; n == 1 || n == 2 && r.Cursor != ""; n++ {
			assert.Empty(t, sequential(t, db, func(ctx context.Context) (err error) {
				r.Cursor, err = list(ctx, r)
				return err
			}), "page %d of %s", n, name)
		}
	}
}

// TestTheSeedIsCountedAndRepeatable also compares the counts of made-up data, which has all kinds of rows, with the tables.
func TestTheSeedIsCountedAndRepeatable(t *testing.T) {
	t.Parallel()
	db, team := seeded(t, 5_000, 1_000)
	again := seed.Team{Seed: team.Seed, Agents: team.Agents, Leads: team.Leads, Now: team.Now}
	require.Equal(t, team.Lead(17), again.Lead(17))
	counts := store.NewAnalytics(db)
	aggregator := analytics.Aggregator{Rollups: counts}
	wrong, err := aggregator.Recompute(t.Context())
	require.NoError(t, err)
	require.Positive(t, wrong)
	wrong, err = aggregator.Recompute(t.Context())
	require.NoError(t, err)
	require.Zero(t, wrong)
	var campaigns, statuses int
	require.NoError(t, db.Conn(t.Context()).QueryRow(t.Context(), `select count(distinct source_campaign), count(distinct status) from leads`).Scan(&campaigns, &statuses))
	require.Greater(t, campaigns, 8)
	require.Equal(t, len(lead.Statuses()), statuses)
}
