package store

import (
	"context"
	"fmt"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// erasures implements agent.Erasures.
type erasures struct {
	db  *pg.DB
	out *outbox.Outbox
}

// Erasures returns what erases deleted agents.
func Erasures(db *pg.DB, out *outbox.Outbox) agent.Erasures { return erasures{db, out} }

// Create publishes a confirmation.
func (s erasures) Create(ctx context.Context, confirmation event.Event) error {
	return s.out.Append(ctx, confirmation)
}

// Remove deletes the row of a deleted agent.
func (s erasures) Remove(ctx context.Context, agentID string) error {
	if _, err := s.db.Conn(ctx).Exec(ctx, `delete from agents where id = $1 and deleted_at is not null`, agentID); err != nil {
		return fmt.Errorf("erase agent %s: %w", agentID, err)
	}
	return idempotency.New(s.db).Forget(ctx, agentID)
}
