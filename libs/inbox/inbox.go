// Package inbox makes the effect of an event and the note that it has been seen one transaction, so that an event that
// arrives twice has its effect once.
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

// Migrations makes the table inbox.
func Migrations() pg.Migrations { return pg.Embedded("inbox", files) }

// Keep is how long a seen event is remembered: longer than any topic that is not compacted is kept, so that a replay from
// its start still finds every note. Of compacted topics the version in the payload decides.
const Keep = 35 * 24 * time.Hour

// Inbox remembers what a service has seen.
type Inbox struct{ db *pg.DB }

// New makes the inbox of the service whose schema db is.
func New(db *pg.DB) *Inbox { return &Inbox{db} }

// InTx runs fn in a transaction.
func (i *Inbox) InTx(ctx context.Context, fn func(ctx context.Context) error) error {
	return i.db.InTx(ctx, fn)
}

// Mark notes the events in the transaction of ctx and returns those that had not been seen before.
func (i *Inbox) Mark(ctx context.Context, eventIDs []string) (unseen map[string]bool, err error) {
	// Sorted, so that two consumers that mark the same events do not deadlock.
	rows, err := i.db.Conn(ctx).Query(ctx, `insert into inbox (event_id) select distinct unnest($1::uuid[]) order by 1 on conflict do nothing returning event_id::text`, eventIDs)
	if err != nil {
		return nil, fmt.Errorf("mark %d events as seen: %w", len(eventIDs), err)
	}
	defer rows.Close()
	unseen = map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("mark events as seen: %w", err)
		}
		unseen[id] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("mark %d events as seen: %w", len(eventIDs), err)
	}
	return unseen, nil
}

// Sweep forgets old notes as an actor.
func (i *Inbox) Sweep(tel telemetry.Set) run.Actor {
	return run.Every(time.Hour, tel, "forget old inbox rows", i.forget)
}

const sweepSize = 5000 // rows per statement, so that none holds locks for long

func (i *Inbox) forget(ctx context.Context) error {
	for {
		tag, err := i.db.Conn(ctx).Exec(ctx, `delete from inbox where event_id in (select event_id from inbox where seen_at < now() - $1::interval limit $2)`, Keep, sweepSize)
		if err != nil || tag.RowsAffected() < sweepSize {
			return err
		}
	}
}
