package store

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// usages implements call.Usages on the table calls.
type usages struct{ db *pg.DB }

// Usages returns the store of what agents use.
func Usages(db *pg.DB) call.Usages { return usages{db} }

// Each sum reads an index of its own: calls_stored, calls_of_agent or calls_newest, and calls_waiting.
const usage = `
	select (select coalesce(sum(size_bytes), 0)::bigint from calls where %[1]s and audio_key <> ''),
		(select coalesce(sum(duration_seconds), 0) from calls where %[1]s and created_at >= $1),
		(select count(*) from calls where %[1]s and status in ('pending', 'transcribing'))`

// Find sums up the calls of an agent or of the team.
func (s usages) Find(ctx context.Context, agentID string, since time.Time) (u call.Usage, err error) {
	query, args := fmt.Sprintf(usage, "true"), []any{since}
	if agentID != "" {
		query, args = fmt.Sprintf(usage, "agent_id = $2"), append(args, agentID)
	}
	if err := s.db.Conn(ctx).QueryRow(ctx, query, args...).Scan(&u.StoredBytes, &u.SecondsToday, &u.PendingCalls); err != nil {
		return u, fmt.Errorf("sum up the calls: %w", pg.Classify(err))
	}
	return u, nil
}
