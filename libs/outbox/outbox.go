// Package outbox is the transactional outbox. Append writes events in the transaction of the change that caused them. The relay
// then publishes them to Kafka in order, and deletes them once the broker has acknowledged them. It delivers at least once: a
// crash between publishing and deleting publishes an event twice. Services publish in no other way.
package outbox

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the table outbox.
func Migrations() pg.Migrations { return pg.Embedded("outbox", files) }

// Outbox is the outbox of one service. It is safe for concurrent use.
type Outbox struct {
	db   *pg.DB
	tel  telemetry.Set
	wake chan struct{}
}

// New returns the outbox in the service's schema db.
func New(db *pg.DB, tel telemetry.Set) *Outbox {
	return &Outbox{db: db, tel: tel, wake: make(chan struct{}, 1)}
}

// maxData is the largest payload in bytes. A broker rejects messages over 1 MB, and an event that cannot be published blocks all
// events after it.
const maxData = 900_000

// Append writes events in the transaction of ctx, and wakes the relay after the commit. Events of one aggregate are published in
// commit order if the caller holds the lock on the aggregate's row, as a store's Change does. An event without data is a tombstone:
// compaction removes its key. Append fails for an event without a key, which Kafka refuses on compacted topics, and for a payload
// over 900,000 bytes.
func (o *Outbox) Append(ctx context.Context, events ...event.Event) error {
	traced := make([]Traced, len(events))
	for i, e := range events {
		traced[i] = o.Traced(ctx, e)
	}
	return o.AppendTraced(ctx, traced...)
}

// Traced is an event with the trace that it belongs to.
type Traced struct {
	trace map[string]string
	event event.Event
}

// Traced returns an event that belongs to the trace of ctx.
func (o *Outbox) Traced(ctx context.Context, e event.Event) Traced {
	return Traced{o.tel.Inject(ctx), e}
}

const (
	// insertAll is one statement for any number of events. The ids of the rows are given in the order of the select.
	insertAll = `
		insert into outbox (event_id, topic, key, type, time, data, trace)
		select event_id, topic, key, type, time, data, trace::jsonb from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bytea[], $7::text[])
			with ordinality as e (event_id, topic, key, type, time, data, trace, n) order by n`

	// insertOne takes PostgreSQL half the time for the usual change, of one event.
	insertOne = `insert into outbox (event_id, topic, key, type, time, data, trace) values ($1, $2, $3, $4, $5, $6, $7)`
)

// AppendTraced is Append for events of several traces.
func (o *Outbox) AppendTraced(ctx context.Context, events ...Traced) error {
	if len(events) == 0 {
		return nil
	}
	n := len(events)
	ids, topics, keys, types, times, data, traces := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]time.Time, n), make([][]byte, n), make([]string, n)
	for i, x := range events {
		e := x.event
		trace, err := json.Marshal(x.trace)
		if err != nil {
			return fmt.Errorf("marshal the trace: %w", err)
		}
		traces[i] = string(trace)
		if e.Key == "" {
			return fmt.Errorf("event %s has no key", e.Type)
		}
		if len(e.Data) > maxData {
			return fmt.Errorf("event %s of %s has %d bytes, over the %d that Kafka takes", e.Type, e.Key, len(e.Data), maxData)
		}
		ids[i], topics[i], keys[i], types[i], times[i], data[i] = e.ID, e.Topic, e.Key, e.Type, e.Time, e.Data
	}
	insert, args := insertAll, []any{ids, topics, keys, types, times, data, traces}
	if n == 1 {
		insert, args = insertOne, []any{ids[0], topics[0], keys[0], types[0], times[0], data[0], traces[0]}
	}
	if err := o.db.Later(ctx, fmt.Sprintf("write %d events to the outbox", n), insert, args...); err != nil {
		return err
	}
	o.db.AfterCommit(ctx, o.Wake)
	return nil
}

// Wake makes the relay poll immediately.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
