package store_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/store"
)

// manyCalls are calls of 20 agents. Most are completed and positive, and each has a client or a lead.
const manyCalls = `
	insert into calls (id, agent_id, version, status, progress, lease_attempts, client_id, lead_id, call_type, call_tag, audio_key, content_type, size_bytes, sha256,
		sentiment, recorded_at, created_at, updated_at, lease_epoch, lease_failures, trace, search)
	select gen_random_uuid(), ('00000000-0000-0000-0000-' || lpad((i % 20)::text, 12, '0'))::uuid, 1, case when i % 5000 = 0 then 'failed' else 'completed' end, 1, 1,
		case when i % 2 = 0 then ('00000000-0000-0000-0001-' || lpad((i % 9000)::text, 12, '0'))::uuid end,
		case when i % 2 = 1 then ('00000000-0000-0000-0002-' || lpad((i % 9000)::text, 12, '0'))::uuid end,
		'default', 'connected', i::text, 'audio/ogg', 1, 'x', case when i % 4999 = 0 then 'negative' else 'positive' end,
		now() - i * interval '1 minute', now() - i * interval '1 minute', now(), 0, 0, '{}', to_tsvector('simple', 'word' || i || ' hello')
	from generate_series(1, 60000) i`

func TestNoListOfCallsReadsAWholeTable(t *testing.T) {
	t.Parallel()
	f := open(t)
	pgtest.Fill(t, f.db, manyCalls, `vacuum analyze calls`)
	const agent, client, lead = "00000000-0000-0000-0000-000000000007", "00000000-0000-0000-0001-000000000100", "00000000-0000-0000-0002-000000000101"
	early, late := noon().AddDate(-10, 0, 0), noon().AddDate(10, 0, 0)
	require.GreaterOrEqual(t, f.rowsRead(t.Context(), t, func(ctx context.Context) {
		_, err := f.db.Conn(ctx).Exec(ctx, `select count(title) from calls`)
		require.NoError(t, err)
	}), int64(60_000), "the test sees one")
	for name, r := range map[string]call.ListRequest{
		"all": {}, "completed": {Status: "completed"}, "failed": {Status: "failed"}, "pending": {Status: "pending"}, "of a client": {ClientID: client}, "of a lead": {LeadID: lead},
		"of nobody": {LeadID: client}, "positive": {Sentiment: "positive"}, "negative": {Sentiment: "negative"}, "neutral": {Sentiment: "neutral"},
		"from": {From: &early}, "from later": {From: &late}, "to": {To: &late}, "to earlier": {To: &early}, "a word": {Text: "word4711"}, "words": {Text: "hello"}, "no word": {Text: "zzzz"},
		"failed of a lead": {LeadID: lead, Status: "failed"},
	} {
		for _, agentID := range []string{"", agent} {
			r.AgentID, r.Request = agentID, page.Request{Limit: 50}
			for n := 1; n == 1 || n == 2 && r.Cursor != ""; n++ {
				assert.Less(t, f.rowsRead(t.Context(), t, func(ctx context.Context) {
					p, err := f.List(ctx, call.Filter{ListRequest: r})
					require.NoError(t, err)
					r.Cursor = p.Next
				}), int64(2000), "page %d of %s of %q", n, name, agentID)
			}
		}
	}
}

// Scheduling costs as much as agents wait, and not as calls do.
func TestSchedulingReadsARowOfEachAgent(t *testing.T) {
	t.Parallel()
	f := open(t)
	pgtest.Fill(t, f.db, manyCalls, `update calls set status = 'pending', due_at = created_at`, `vacuum analyze calls`,
		`insert into turns select distinct agent_id, now() from calls where agent_id::text <> '00000000-0000-0000-0000-000000000007'`)
	leases := store.Leases(f.db)
	mine := pgtest.Column[string](t, f.db, `select id::text from calls where agent_id::text = '00000000-0000-0000-0000-000000000003' limit 1`)[0]
	read := f.rowsRead(t.Context(), t, func(ctx context.Context) {
		next, ok, err := leases.FindNext(ctx, lease.Ref{ID: mine})
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, []string{"00000000-0000-0000-0000-000000000007"}, pgtest.Column[string](t, f.db, `select agent_id::text from calls where id = $1`, next.ID))
	})
	require.Less(t, read, int64(200), "of 60,000 calls of 20 agents")
}

// Neither calls that wait nor a backlog of lost ones make the search for lost calls slow.
func TestLostCallsAreReadFromAnIndexOfHeldLeases(t *testing.T) {
	t.Parallel()
	f := open(t)
	pgtest.Fill(t, f.db, manyCalls, `update calls set status = 'pending', due_at = created_at`, `vacuum analyze calls`)
	list := func(want int) int64 {
		return f.rowsRead(t.Context(), t, func(ctx context.Context) {
			lost, err := store.Leases(f.db).ListLost(ctx, 100)
			require.NoError(t, err)
			require.Len(t, lost, want)
		})
	}
	require.Less(t, list(0), int64(10), "of 60,000 that wait")
	pgtest.Fill(t, f.db, `update calls set status = 'transcribing', lease_holder = 'dead', lease_until = created_at`, `vacuum analyze calls`)
	require.Less(t, list(100), int64(500), "of 60,000 whose leases have expired")
}

// rowsRead returns how many rows of the table calls do reads.
func (f fixture) rowsRead(ctx context.Context, t *testing.T, do func(ctx context.Context)) int64 {
	t.Helper()
	rows := pgtest.Read(ctx, t, f.db, func(ctx context.Context) error { do(ctx); return nil })["calls"]
	return rows.Scanned + rows.Fetched
}
