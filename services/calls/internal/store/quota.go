package store

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// consumption implements call.Consumption on the table calls.
type consumption struct{ db *pg.DB }

// Consumption returns the store of what agents use.
func Consumption(db *pg.DB) call.Consumption { return consumption{db} }

// Each sum reads an index of its own: calls_stored, calls_of_agent or calls_newest, and calls_open.
const consumed = `
	select (select coalesce(sum(size_bytes), 0)::bigint from calls where %[1]s and audio_key <> ''),
		(select coalesce(sum(duration_seconds), 0) from calls where %[1]s and created_at >= $1),
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
