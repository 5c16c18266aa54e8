package store

import (
	"context"
	"fmt"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// Sessions is the table sessions.
type Sessions struct{ db *pg.DB }

// NewSessions makes the store of the sessions in db.
func NewSessions(db *pg.DB) *Sessions { return &Sessions{db} }

// Create keeps a new session.
func (s *Sessions) Create(ctx context.Context, session agent.Session) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `insert into sessions (id, agent_id, created_at, last_used_at, user_agent, ip) values ($1, $2, $3, $4, $5, $6)`,
		session.ID, session.AgentID, session.CreatedAt, session.LastUsedAt, session.UserAgent, session.IP)
	if err != nil {
		return fmt.Errorf("insert session %s: %w", session.ID, err)
	}
	return nil
}
