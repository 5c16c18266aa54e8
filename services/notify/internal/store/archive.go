package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// archive implements delivery.Archive on the table deliveries.
type archive struct{ db *pg.DB }

// Archive returns what reads the bodies that were sent.
func Archive(db *pg.DB) delivery.Archive { return archive{db} }

// sentLimit bounds the work of one request of a stranger: an event has a delivery for each endpoint and replay.
const sentLimit = 100

// ListSent reads the newest bodies of an event.
func (s archive) ListSent(ctx context.Context, eventID string) ([]delivery.Sent, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, `select endpoint_id, event, body from deliveries where event_id = $1 and body is not null order by created_at desc limit $2`, eventID, sentLimit)
	if err != nil {
		return nil, fmt.Errorf("read what was sent of event %s: %w", eventID, pg.Classify(err))
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[delivery.Sent])
	if err != nil {
		return nil, fmt.Errorf("read what was sent of event %s: %w", eventID, pg.Classify(err))
	}
	return found, nil
}
