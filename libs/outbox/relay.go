package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/run"
)

// Message is an event as the publisher gets it: with the trace that it belongs to.
type Message struct {
	event.Event
	Trace map[string]string // W3C traceparent and tracestate
}

// Publisher puts messages on Kafka. Publish returns nil only when the broker has all of them durably, and keeps their
// order per key.
type Publisher interface {
	Publish(ctx context.Context, messages []Message) error
}

const (
	batchSize = 500                    // messages per round: half a megabyte at the usual size
	idlePoll  = time.Second            // finds what another replica wrote, and what a crash left; own writes wake the relay
	busyPoll  = 20 * time.Millisecond  // after there was something, doubled up to idlePoll: the next write is likely soon
	retryWait = 500 * time.Millisecond // after a failure, doubled up to retryMost
	retryMost = 10 * time.Second
)

// Relay publishes the outbox as an actor. Of all replicas of a service one leads, chosen by an advisory lock: two relays
// that share the rows with SKIP LOCKED would publish out of order.
func (o *Outbox) Relay(to Publisher) run.Actor {
	published := prometheus.NewCounter(prometheus.CounterOpts{Name: "convoflow_outbox_published_total", Help: "Events published to Kafka.", ConstLabels: prometheus.Labels{"service": o.tel.Service}})
	age := prometheus.NewGauge(prometheus.GaugeOpts{Name: "convoflow_outbox_oldest_seconds", Help: "Age of the oldest event that is not published yet, seen by the leading replica.", ConstLabels: prometheus.Labels{"service": o.tel.Service}})
	return run.Func(func(ctx context.Context) error {
		if err := errors.Join(o.tel.Metrics.Register(published), o.tel.Metrics.Register(age)); err != nil {
			return fmt.Errorf("register the relay's metrics: %w", err)
		}
		for wait := retryWait; ctx.Err() == nil; {
			progress, err := o.lead(ctx, to, published, age)
			if ctx.Err() != nil {
				return nil
			}
			if progress {
				wait = retryWait
			}
			o.tel.Log.WarnContext(ctx, "the outbox relay starts over", "error", err, "wait", wait)
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			wait = min(2*wait, retryMost)
		}
		return nil
	})
}

// lead publishes for as long as this process is the leader. All of its statements run on the connection that holds the
// lock, so a leader that lost it cannot delete what the next one is publishing.
func (o *Outbox) lead(ctx context.Context, to Publisher, published prometheus.Counter, age prometheus.Gauge) (progress bool, err error) {
	conn, release, err := o.db.Lead(ctx, "outbox")
	if err != nil {
		return false, err
	}
	defer release()
	for poll := idlePoll; ; {
		n, oldest, err := o.round(ctx, conn, to)
		if err != nil {
			age.Set(oldest.Seconds())
			return progress, err
		}
		progress = true
		published.Add(float64(n))
		age.Set(0)
		if n == batchSize {
			continue
		}
		poll = min(2*poll, idlePoll)
		if n > 0 {
			poll = busyPoll
		}
		select {
		case <-ctx.Done():
			return progress, ctx.Err()
		case <-o.wake:
		case <-time.After(poll):
		}
	}
}

type row struct {
	ID      int64
	EventID string
	Topic   string
	Key     string
	Type    string
	Time    time.Time
	Data    []byte
	Trace   []byte
	Age     time.Duration
}

// round publishes one batch from the front. It reads from the start every time: ids are given before the commit, and a
// cursor would step over a row that commits late.
func (o *Outbox) round(ctx context.Context, conn *pgx.Conn, to Publisher) (n int, oldest time.Duration, err error) {
	rows, err := conn.Query(ctx, `select id, event_id::text, topic, key, type, time, data, trace, now() - created_at as age from outbox order by id limit $1`, batchSize)
	if err != nil {
		return 0, 0, fmt.Errorf("read the outbox: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		return 0, 0, fmt.Errorf("read the outbox: %w", err)
	}
	if len(found) == 0 {
		return 0, 0, nil
	}
	messages, ids := make([]Message, len(found)), make([]int64, len(found))
	for i, r := range found {
		ids[i] = r.ID
		messages[i] = Message{Event: event.Event{ID: r.EventID, Type: r.Type, Topic: r.Topic, Key: r.Key, Source: "/convoflow/" + o.tel.Service, Time: r.Time.UTC(), Data: r.Data}}
		if err := json.Unmarshal(r.Trace, &messages[i].Trace); err != nil {
			return 0, found[0].Age, fmt.Errorf("read the trace of event %s: %w", r.EventID, err)
		}
	}
	if err := to.Publish(ctx, messages); err != nil {
		return 0, found[0].Age, fmt.Errorf("publish: %w", err)
	}
	if _, err := conn.Exec(ctx, `delete from outbox where id = any($1)`, ids); err != nil {
		return 0, found[0].Age, fmt.Errorf("clear the outbox: %w", err)
	}
	return len(found), found[0].Age, nil
}
