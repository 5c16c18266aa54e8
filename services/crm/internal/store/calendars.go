package store

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

// calendars implements followup.Calendars on the table calendar_tokens.
type calendars struct{ db *pg.DB }

// Calendars returns the store of calendar addresses.
func Calendars(db *pg.DB) followup.Calendars { return calendars{db} }

// Create stores the token of an agent.
func (s calendars) Create(ctx context.Context, agentID string, hash []byte, now time.Time) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `
		insert into calendar_tokens (agent_id, hash, created_at) values ($1, $2, $3)
		on conflict (agent_id) do update set hash = excluded.hash, created_at = excluded.created_at`, agentID, hash, now)
	if err != nil {
		return fmt.Errorf("store a calendar token: %w", pg.Classify(err))
	}
	return nil
}

// Find reads the agent of a token.
func (s calendars) Find(ctx context.Context, hash []byte) (agentID string, err error) {
	err = s.db.Conn(ctx).QueryRow(ctx, `
		select t.agent_id::text from calendar_tokens t left join agents a on a.id = t.agent_id
		where t.hash = $1 and coalesce(a.active, true)`, hash).Scan(&agentID)
	switch {
	case pg.NoRows(err):
		return "", followup.CalendarNotFound()
	case err != nil:
		return "", fmt.Errorf("find a calendar: %w", pg.Classify(err))
	}
	return agentID, nil
}

// Remove removes the token of an agent.
func (s calendars) Remove(ctx context.Context, agentID string) error {
	if _, err := s.db.Conn(ctx).Exec(ctx, `delete from calendar_tokens where agent_id = $1`, agentID); err != nil {
		return fmt.Errorf("remove a calendar token: %w", pg.Classify(err))
	}
	return nil
}
