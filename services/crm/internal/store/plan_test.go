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
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/seed"
	"github.com/convoflow/convoflow/services/crm/internal/store"
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
	var called []followup.Call
	var promised []followup.FollowUp
	for n := range calls {
		if c, ok := team.Call(n); ok {
			called = append(called, c)
		}
		if x, ok := team.FollowUp(n, n); ok {
			promised = append(promised, x)
		}
	}
	_, err = to.Calls(ctx, team.Seed, 0, called)
	require.NoError(t, err)
	_, err = to.FollowUps(ctx, team.Seed, 0, promised)
	require.NoError(t, err)
	require.NoError(t, to.Finish(ctx))
	return db, team
}

// sequential returns the large tables that do reads as a whole. PostgreSQL counts the scans of the connection.
func sequential(t *testing.T, db *pg.DB, do func(ctx context.Context) error) (tables []string) {
	t.Helper()
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context) error {
		// The test's table is small enough to be read as a whole instead of by thousands of random pages. With a million leads that
		// never pays, as here with cheap random pages.
		if _, err := db.Conn(ctx).Exec(ctx, `set local random_page_cost = 1.1`); err != nil {
			return err
		}
		before, err := scans(ctx, db)
		if err != nil {
			return err
		}
		if err := do(ctx); err != nil {
			return err
		}
		after, err := scans(ctx, db)
		for name, n := range after {
			if n > before[name] {
				tables = append(tables, name)
			}
		}
		return err
	}))
	return tables
}

func scans(ctx context.Context, db *pg.DB) (counts map[string]int64, err error) {
	return counts, db.Conn(ctx).QueryRow(ctx, `select jsonb_object_agg(relname, seq_scan) from pg_stat_xact_user_tables
		where schemaname = current_schema() and relname in ('leads', 'calls', 'followups')`).Scan(&counts)
}

func TestNoListReadsAWholeTable(t *testing.T) {
	t.Parallel()
	db, team := seeded(t, 50_000, 30_000)
	out := outbox.New(db, telemetry.Nop())
	leads, followups, counts := store.Leads(db, out), store.FollowUps(db, out), store.NewAnalytics(db)
	require.Equal(t, []string{"leads"}, sequential(t, db, func(ctx context.Context) error {
		_, err := db.Conn(ctx).Exec(ctx, `select count(notes) from leads`)
		return err
	}), "the test sees one")

	busy := team.Agent(5).ID
	filters := map[string]lead.Filter{
		"all": {}, "of an agent": {AgentID: busy}, "of nobody": {Unassigned: true}, "status": {Status: "qualified"}, "usual status": {Status: "new"},
		"intent": {IntentCategory: "interested"}, "campaign": {Campaign: "Walk-in"}, "search": {Q: "lead4711."}, "search a phone": {Q: "4711"}, "search, none": {Q: "zzzz"},
		"status of an agent": {AgentID: busy, Status: "converted"}, "intent of an agent": {AgentID: busy, IntentCategory: "undecided"},
		"campaign of an agent": {AgentID: busy, Campaign: "Referral"}, "search of an agent": {AgentID: busy, Q: "priya"}, "short search": {Q: "ya"},
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

	x, _ := team.FollowUp(1, 1)
	for name, r := range map[string]followup.ListRequest{
		"all": {}, "of a call": {CallID: x.CallID}, "of a client": {ClientID: x.CallID}, "open": {Completed: new(false)}, "completed": {Completed: new(true)},
		"overdue": {Overdue: new(true)}, "due before": {DueBefore: &team.Now}, "due after": {DueAfter: &team.Now},
	} {
		for _, agentID := range []string{"", busy} {
			r.Limit = 50
			assert.Empty(t, sequential(t, db, func(ctx context.Context) error {
				_, err := followups.List(ctx, followup.Filter{AgentID: agentID, Now: team.Now, ListRequest: r})
				return err
			}), "follow-ups: %s of %q", name, agentID)
		}
	}

	keeper := analytics.Keeper{Rollups: counts}
	_, err := keeper.Recompute(t.Context())
	require.NoError(t, err)
	var none *string
	week := team.Now.AddDate(0, 0, -7)
	for _, agentID := range []*string{none, &busy} {
		scope := analytics.Team
		if agentID != nil {
			scope = *agentID
		}
		for name, plan := range map[string]string{
			"counts": explain(t, db, store.ReadCounts, scope, analytics.Daily(), []int32{20700, 20701}, []int32{74, 74}, int32(20700), int32(74), week, team.Now, agentID),
			"agents": explain(t, db, store.ReadLeaderboard, agentID, week, team.Now),
			"topics": explain(t, db, store.ReadMentions, agentID, []time.Time{week, team.Now}, week, team.Now, 20),
		} {
			for _, table := range []string{"leads", "calls", "followups", "analytics_days"} {
				require.NotContains(t, plan, "Seq Scan on "+table, name)
			}
		}
	}
}

func explain(t *testing.T, db *pg.DB, sql string, args ...any) string {
	t.Helper()
	return strings.Join(pgtest.Column[string](t, db, "explain "+sql, args...), "\n")
}

// TestTheSeedIsCountedAndRepeatable also compares the counts of made-up data, which has all kinds of rows, with the tables.
func TestTheSeedIsCountedAndRepeatable(t *testing.T) {
	t.Parallel()
	db, team := seeded(t, 5_000, 1_000)
	again := seed.Team{Seed: team.Seed, Agents: team.Agents, Leads: team.Leads, Now: team.Now}
	require.Equal(t, team.Lead(17), again.Lead(17))
	counts := store.NewAnalytics(db)
	keeper := analytics.Keeper{Rollups: counts}
	wrong, err := keeper.Recompute(t.Context())
	require.NoError(t, err)
	require.Positive(t, wrong)
	wrong, err = keeper.Recompute(t.Context())
	require.NoError(t, err)
	require.Zero(t, wrong)
	var campaigns, statuses int
	require.NoError(t, db.Conn(t.Context()).QueryRow(t.Context(), `select count(distinct source_campaign), count(distinct status) from leads`).Scan(&campaigns, &statuses))
	require.Greater(t, campaigns, 8)
	require.Equal(t, len(lead.Statuses()), statuses)
}
