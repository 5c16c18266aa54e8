package store

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// consumption implements call.Consumption on the tables calls and audio_days.
type consumption struct{ db *pg.DB }

// Consumption returns the store of what agents use.
func Consumption(db *pg.DB) call.Consumption { return consumption{db} }

// Each sum of calls reads an index of its own: calls_stored and calls_open.
const consumed = `
	select (select coalesce(sum(size_bytes), 0)::bigint from calls where %[1]s and audio_key <> ''),
		(select coalesce(sum(seconds), 0) from audio_days where %[1]s and day >= ($1::timestamptz at time zone 'UTC')::date),
		(select count(*) from calls where %[1]s and status in ('pending', 'transcribing'))`

// Find sums up the calls of an agent or of the team.
func (s consumption) Find(ctx context.Context, agentID string, since time.Time) (u call.Consumed, err error) {
	query, args := fmt.Sprintf(consumed, "true"), []any{since}
	if agentID != "" {
		query, args = fmt.Sprintf(consumed, "agent_id = $2"), append(args, agentID)
	}
	if err := s.db.Conn(ctx).QueryRow(ctx, query, args...).Scan(&u.StoredBytes, &u.SecondsToday, &u.PendingCalls); err != nil {
		return u, fmt.Errorf("sum up the calls: %w", pg.Classify(err))
	}
	return u, nil
}

// recordAudio adds what was learned about the duration of a recording to the day of its upload.
func (s *calls) recordAudio(ctx context.Context, before, after *record) error {
	seconds := 0.0
	if after.DurationSeconds != nil {
		seconds = *after.DurationSeconds
	}
	if before != nil && before.DurationSeconds != nil {
		seconds -= *before.DurationSeconds
	}
	if seconds == 0 {
		return nil
	}
	_, err := s.db.Conn(ctx).Exec(ctx, `
		insert into audio_days as d (day, agent_id, seconds) values (($1::timestamptz at time zone 'UTC')::date, $2, $3)
		on conflict (day, agent_id) do update set seconds = d.seconds + excluded.seconds`, after.CreatedAt, after.AgentID, seconds)
	return err
}
