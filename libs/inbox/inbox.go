// Package inbox is the idempotent consumer's inbox: it records the id of each processed event in the transaction that applies
// the event, so that a duplicate is not applied again. It refuses to store payloads.
package inbox

import (
	"context"
	"embed"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the table inbox.
func Migrations() pg.Migrations { return pg.Embedded("inbox", files) }

// Retention is how long the id of a processed event is stored: longer than the retention of every topic that is not compacted, so
// that a full replay finds every id. For compacted topics, the version in the payload identifies duplicates.
const Retention = 35 * 24 * time.Hour

// Inbox records the processed events of one service. It is safe for concurrent use.
type Inbox struct{ db *pg.DB }

// New returns the inbox in the service's schema db.
func New(db *pg.DB) *Inbox { return &Inbox{db} }

// InTx runs fn in a transaction.
func (i *Inbox) InTx(ctx context.Context, fn func(ctx context.Context) error) error {
	return i.db.InTx(ctx, fn)
}

// Mark records the ids in the transaction of ctx, and returns those that were not recorded before.
func (i *Inbox) Mark(ctx context.Context, eventIDs []string) (newIDs map[string]bool, err error) {
	// Sorted, so that two consumers that mark the same events do not deadlock.
	rows, err := i.db.Conn(ctx).Query(ctx, `insert into inbox (event_id) select distinct unnest($1::uuid[]) order by 1 on conflict do nothing returning event_id::text`, eventIDs)
	if err != nil {
		return nil, fmt.Errorf("record %d events as processed: %w", len(eventIDs), err)
	}
	defer rows.Close()
	newIDs = map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("record events as processed: %w", err)
		}
		newIDs[id] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("record %d events as processed: %w", len(eventIDs), err)
	}
	return newIDs, nil
}

// Sweep returns the actor that deletes ids older than Retention, once an hour.
func (i *Inbox) Sweep(tel telemetry.Set) run.Actor {
	return run.Every(time.Hour, tel, "delete old inbox rows", i.deleteOld)
}

const sweepSize = 5000 // rows per statement, so that none holds locks for long

func (i *Inbox) deleteOld(ctx context.Context) error {
	for {
		tag, err := i.db.Conn(ctx).Exec(ctx, `delete from inbox where event_id in (select event_id from inbox where seen_at < now() - $1::interval limit $2)`, Retention, sweepSize)
		if err != nil || tag.RowsAffected() < sweepSize {
			return err
		}
	}
}
