package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
)

// readLeaderboard reads the calls and conversions of the period by their indexes, and counts no leads: those are in the totals.
const readLeaderboard = `
	with talked as (
		select agent_id, count(*) calls, coalesce(sum(duration_seconds), 0) seconds, coalesce(avg(duration_seconds), 0) average,
			count(*) filter (where sentiment = 'positive') positive, count(*) filter (where sentiment = 'neutral') neutral,
			count(*) filter (where sentiment = 'negative') negative, count(talk) talks,
			avg((talk->>'agent_ratio')::float8) ratio, avg((talk->>'longest_monologue')::float8) monologue, avg((talk->>'questions')::float8) questions,
			avg((talk->>'words_per_minute')::float8) words, avg((talk->>'silence')::float8) silence, avg((talk->>'turns')::float8) turns
		from calls where not deleted and called_at >= $2 and called_at < $3 and ($1::uuid is null or agent_id = $1) group by agent_id
	), converted as (
		select assigned_agent_id agent_id, count(*) n from leads
		where converted_at >= $2 and converted_at < $3 and ($1::uuid is null or assigned_agent_id = $1) group by 1
	), assigned as (
		select agent_id, sum(n) n from (
			select key::uuid agent_id, n from analytics_totals
			where scope = '` + analytics.Team + `' and kind = 'agent_leads' and ($1::uuid is null or key = $1::text)
			union all
			select agent_id, sign from analytics_deltas where lead and ($1::uuid is null or agent_id = $1)
		) x group by agent_id
	)
	select id::text, coalesce(a.name, ''), coalesce(t.calls, 0), coalesce(t.seconds, 0)::bigint, coalesce(t.average, 0),
		coalesce(t.positive, 0), coalesce(t.neutral, 0), coalesce(t.negative, 0), coalesce(l.n, 0)::bigint, coalesce(c.n, 0),
		coalesce(t.talks, 0), coalesce(t.ratio, 0), coalesce(t.monologue, 0), coalesce(t.questions, 0), coalesce(t.words, 0), coalesce(t.silence, 0), coalesce(t.turns, 0)
	from (select id from agents where active and ($1::uuid is null or id = $1)
		union select agent_id from talked union select agent_id from converted union select agent_id from assigned where n <> 0 union select $1::uuid) ids(id)
	left join agents a using (id) left join talked t on t.agent_id = id left join converted c on c.agent_id = id left join assigned l on l.agent_id = id
	where id is not null
	order by coalesce(c.n, 0) desc, coalesce(t.calls, 0) desc, id`

// Leaderboard reads what the agents of a scope did.
func (s Analytics) Leaderboard(ctx context.Context, scope string, from, to time.Time) ([]analytics.Ranking, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, readLeaderboard, agentOf(scope), from, to)
	if err != nil {
		return nil, fmt.Errorf("read the leaderboard: %w", pg.Classify(err))
	}
	board, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r analytics.Ranking, err error) {
		t := &r.Talk
		return r, row.Scan(&r.AgentID, &r.AgentName, &r.CallsMade, &r.TalkSeconds, &r.AverageDuration, &r.Positive, &r.Neutral, &r.Negative,
			&r.LeadsAssigned, &r.Conversions, &t.Calls, &t.AgentRatio, &t.LongestMonologue, &t.Questions, &t.WordsPerMinute, &t.Silence, &t.Turns)
	})
	if err != nil {
		return nil, fmt.Errorf("read the leaderboard: %w", pg.Classify(err))
	}
	return board, nil
}

// agentOf returns the agent of a scope, or nil for the team.
func agentOf(scope string) *string {
	if scope == analytics.Team {
		return nil
	}
	return &scope
}

// mentionLimit is how many topics and how many objections are shown.
const mentionLimit = 20

// readMentions counts the calls of the period that mention something, whatever its case, per day of the calendar. width_bucket finds
// the day: $2 is when each day begins, and the end of the last.
const readMentions = `
	with said as materialized (
		select x.kind, lower(btrim(x.text)) text, width_bucket(called_at, $2::timestamptz[]) - 1 as day, count(distinct id) n
		from calls, lateral (
			select 0 kind, unnest(key_topics) text union all select 1, unnest(objections)
		) x
		where not deleted and called_at >= $3 and called_at < $4 and ($1::uuid is null or agent_id = $1) and btrim(x.text) <> ''
		group by 1, 2, 3
	), frequent as (
		select kind, text, sum(n) total, row_number() over (partition by kind order by sum(n) desc, text) place from said group by kind, text
	)
	select kind, text, day, n from said join frequent using (kind, text) where place <= $5 order by kind, place, day`

// Mentions reads what was said in the calls of a scope.
func (s Analytics) Mentions(ctx context.Context, scope string, days []time.Time) (topics, objections []analytics.Mention, err error) {
	rows, err := s.db.Conn(ctx).Query(ctx, readMentions, agentOf(scope), days, days[0], days[len(days)-1], mentionLimit)
	if err != nil {
		return nil, nil, fmt.Errorf("read the topics: %w", pg.Classify(err))
	}
	defer rows.Close()
	for rows.Next() {
		var kind int
		var m analytics.Mention
		if err := rows.Scan(&kind, &m.Text, &m.Index, &m.Count); err != nil {
			return nil, nil, fmt.Errorf("read the topics: %w", err)
		}
		if kind == 0 {
			topics = append(topics, m)
		} else {
			objections = append(objections, m)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("read the topics: %w", pg.Classify(err))
	}
	return topics, objections, nil
}
