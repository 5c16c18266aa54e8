package crm

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestAnInterruptedSeedGoesOn(t *testing.T) {
	t.Parallel()
	cfg := Defaults()
	cfg.Database.URL = conf.Secret(pgtest.Schema(t))
	db, err := pgx.Connect(t.Context(), string(cfg.Database.URL))
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(context.WithoutCancel(t.Context())) })
	rows := func() (leads, chunks, counted int) {
		require.NoError(t, db.QueryRow(t.Context(), `select (select count(*) from leads), (select count(*) from seeded where kind = 'leads'),
			(select coalesce(sum(n), 0) from analytics_totals where kind = 'status' and scope = '00000000-0000-0000-0000-000000000000')`).Scan(&leads, &chunks, &counted))
		return leads, chunks, counted
	}
	interrupted, stop := context.WithCancel(t.Context())
	var kinds []string
	o := SeedOptions{Agents: 3, Leads: seedChunk + 100, Calls: 50, Seed: 1, Progress: func(kind string, done, all int) {
		require.LessOrEqual(t, done, all)
		if done == all {
			kinds = append(kinds, kind)
		}
		if kind == "leads" {
			stop() // after the first of two chunks
		}
	}}
	require.ErrorIs(t, Seed(interrupted, cfg, telemetry.Nop(), o), context.Canceled)
	leads, chunks, counted := rows()
	require.Equal(t, []int{seedChunk, 1, 0}, []int{leads, chunks, counted})

	kinds = nil
	for range 2 { // the second time there is nothing left to do
		require.NoError(t, Seed(t.Context(), cfg, telemetry.Nop(), o))
		leads, chunks, counted = rows()
		require.Equal(t, []int{seedChunk + 100, 2, seedChunk + 100}, []int{leads, chunks, counted})
	}
	require.Equal(t, []string{"agents", "leads", "calls", "follow-ups", "analyzing", "counting"}, kinds[:len(kinds)/2])
}
