package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/event"
)

const (
	transcripts = 50_000
	// differentTexts is how many of them differ. Each row has its own copy.
	differentTexts = 400
	searchPath     = "/calls?q=discount&limit=20"
)

// makeCalls inserts completed calls of 20 agents with transcripts of 700 words, whose frequencies fall as those of a language do.
// Three of five have the word discount.
const makeCalls = `
	create temporary table said as
	with vocabulary as (select n, substr(md5(n::text), 1, 3 + n % 7) as word from generate_series(1, 20000) n),
		spoken as materialized (select d, o, 1 + floor(19999 * power(random(), 4))::int as n from generate_series(1, $1) d, generate_series(1, 700) o)
	select d, string_agg(word, ' ' order by o) || case when d % 5 < 3 then ' and a discount' else '' end as text from spoken join vocabulary using (n) group by d;
`

const insertCalls = `
	with agents as materialized (select a, gen_random_uuid() as id from generate_series(0, 19) a),
		indexed as materialized (select d, text, to_tsvector('english', text) as search from said),
		made as (
			insert into calls.calls (id, agent_id, version, status, outcome, progress, call_type, call_tag, language, recorded_at, audio_key, content_type, size_bytes, sha256,
				title, summary, created_at, updated_at, completed_at, lease_epoch, lease_attempts, lease_failures, trace, search, search_config)
			select gen_random_uuid(), agents.id, 3, 'completed', 'ok', 1, 'default', 'connected', 'en', now(), g::text, 'audio/ogg', 1, '',
				'Call ' || g, 'A summary of what was said.', now() - g * interval '1 minute', now(), now(), 0, 1, 0, '{}', search, 'english'
			from generate_series(1, $1) g join agents on a = g % 20 join indexed on d = 1 + g % $2
			returning id, audio_key)
	insert into calls.transcripts (call_id, text) select made.id, text from made join said on d = 1 + audio_key::int % $2`

// search measures the p95 of a search for a common word in many transcripts, by an admin.
func search(ctx context.Context, b *bench) (result report.Result, err error) {
	b.printf("search: p95 of a common word in %d transcripts ÷ 1 ms", transcripts)
	result = report.Result{Name: "search", Peer: "1 ms", Unit: "µs", Floor: 60, Goal: 30}
	var e environment
	defer func() { err = errors.Join(err, e.close()) }()
	postgres, err := e.startPostgres(ctx)
	if err != nil {
		return result, err
	}
	if err := e.start(); err != nil {
		return result, err
	}
	dir, err := os.MkdirTemp(b.dir, "recordings-")
	if err != nil {
		return result, fmt.Errorf("make a directory: %w", err)
	}
	calls, err := e.startService(ctx, b, "calls", process.Any, "DATABASE_URL="+postgres.URL(), "CRM_URL="+e.url, "STORAGE_URL=file://"+dir, "OPENAI_API_KEY=none",
		"OPENAI_BASE_URL="+e.url+"/v1", "SECRET_KEY=7Qm2xV9pLr4TzW8kYb3NcF6hJd1SgA5e")
	if err != nil {
		return result, err
	}
	if err := calls.ready(ctx); err != nil {
		return result, err
	}
	if err := fillCalls(ctx, postgres.URL()); err != nil {
		return result, err
	}
	admin := requester{client: &http.Client{Timeout: requestTimeout}, base: calls.url}
	if admin.token, err = e.issuer.AdminToken(event.NewID()); err != nil {
		return result, err
	}
	return b.rounds(ctx, result, func(bool) (round report.Round, err error) {
		var times []time.Duration
		round.Ours, err = observeParts([]part{{"calls", calls}, {"PostgreSQL", postgres}}, process.Any, func() (int, time.Duration, error) {
			var err error
			times, err = admin.repeat(ctx, searchPath, b.Length)
			return len(times), b.Length, err
		})
		if err != nil {
			return round, err
		}
		slices.Sort(times)
		round.Peer = round.Ours
		round.Ours.Value, round.Peer.Value = micros(times[len(times)*95/100]), 1000
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, nil
	})
}

func fillCalls(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{makeCalls, []any{pgx.QueryExecModeSimpleProtocol, differentTexts}}, {insertCalls, []any{transcripts, differentTexts}},
		{"vacuum analyze calls.calls, calls.transcripts", nil},
	} {
		if _, err := conn.Exec(ctx, statement.sql, statement.args...); err != nil {
			return fmt.Errorf("make calls: %w", err)
		}
	}
	return nil
}
