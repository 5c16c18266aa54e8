package store

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/crm/internal/client"
	"github.com/convoflow/convoflow/services/crm/internal/timeline"
)

// Links implements client.Links and followup.People: what refers to clients and leads, and where the references of merged ones lead.
type Links struct {
	db        *pg.DB
	timelines items
}

// NewLinks returns the references to clients.
func NewLinks(db *pg.DB) *Links { return &Links{db: db, timelines: newItems(db)} }

// Change makes everything that refers to one client refer to another. The versions of follow-ups increase without an event for each:
// a consumer with copies of follow-ups also reads client.deleted, which names both clients.
func (l *Links) Change(ctx context.Context, from, to string, now time.Time) error {
	return l.db.InTx(ctx, func(ctx context.Context) error {
		// Both are locked before anything refers to the target, in one order.
		locked, err := l.db.Conn(ctx).Exec(ctx, `select from clients where id = any($1::uuid[]) order by id for update`, []string{from, to})
		if err != nil {
			return fmt.Errorf("lock clients %s and %s: %w", from, to, pg.Classify(err))
		}
		if locked.RowsAffected() < 2 {
			return client.NotFound()
		}
		for _, statement := range []string{
			`update followups set client_id = $2, version = version + 1 where client_id = $1`,
			`update calls set client_id = $2 where client_id = $1`,
			`update timeline set client_id = $2 where client_id = $1`,
			`update client_merges set merged_into = $2 where merged_into = $1`,
			`insert into client_merges (id, merged_into) values ($1, $2)`,
		} {
			if _, err := l.db.Conn(ctx).Exec(ctx, statement, from, to); err != nil {
				return fmt.Errorf("merge client %s into %s: %w", from, to, pg.Classify(err))
			}
		}
		return l.timelines.record(ctx, timeline.Item{At: now, ClientID: &to, Event: new("client.merged")})
	})
}

// Find returns the client, or the one that it was merged into, and the lead, and locks their rows against deletion.
func (l *Links) Find(ctx context.Context, clientID, leadID *string) (client, lead *string, err error) {
	if client, err = l.find(ctx, `select id::text from clients where id = coalesce((select merged_into from client_merges where id = $1), $1)`, clientID); err != nil {
		return nil, nil, fmt.Errorf("find client %s: %w", *clientID, err)
	}
	if lead, err = l.find(ctx, `select id::text from leads where id = $1`, leadID); err != nil {
		return nil, nil, fmt.Errorf("find lead %s: %w", *leadID, err)
	}
	return client, lead, nil
}

func (l *Links) find(ctx context.Context, query string, id *string) (found *string, err error) {
	if id == nil {
		return nil, nil
	}
	if err = l.db.Conn(ctx).QueryRow(ctx, query+" for key share", *id).Scan(&found); pg.NoRows(err) {
		return nil, nil
	}
	return found, pg.Classify(err)
}
