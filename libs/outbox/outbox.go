// Package outbox makes a change and its events one transaction: Append writes the events beside the change, the relay
// publishes them to Kafka afterwards, in order, and deletes them once the broker has them. Nothing publishes in any other
// way. An event may be published twice (a crash between the two), never not at all.
package outbox

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the table outbox.
func Migrations() pg.Migrations { return pg.Embedded("outbox", files) }

// Outbox is the outbox of one service.
type Outbox struct {
	db   *pg.DB
	tel  telemetry.Set
	wake chan struct{}
}

// New makes the outbox of the service whose schema db is.
func New(db *pg.DB, tel telemetry.Set) *Outbox {
	return &Outbox{db: db, tel: tel, wake: make(chan struct{}, 1)}
}

// maxData is how many bytes a payload may have. A broker refuses 1 MB, and a relay that cannot publish one event publishes
// none after it.
const maxData = 900_000

// Append writes events in the transaction of ctx and wakes the relay after its commit. Events of one aggregate keep the
// order of their commits as long as the caller holds the lock on the aggregate's row, which Change of a store does.
func (o *Outbox) Append(ctx context.Context, events ...event.Event) error {
	if len(events) == 0 {
		return nil
	}
	trace, err := json.Marshal(o.tel.Inject(ctx))
	if err != nil {
		return fmt.Errorf("marshal the trace: %w", err)
	}
	batch := &pgx.Batch{}
	for _, e := range events {
		if len(e.Data) > maxData {
			return fmt.Errorf("event %s of %s has %d bytes, over the %d that Kafka takes", e.Type, e.Key, len(e.Data), maxData)
		}
		batch.Queue(`insert into outbox (event_id, topic, key, type, time, data, trace) values ($1, $2, $3, $4, $5, $6, $7)`,
			e.ID, e.Topic, e.Key, e.Type, e.Time, []byte(e.Data), trace)
	}
	if err := o.db.Conn(ctx).SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("write %d events to the outbox: %w", len(events), err)
	}
	o.db.AfterCommit(ctx, o.Wake)
	return nil
}

// Wake makes the relay look at once.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
