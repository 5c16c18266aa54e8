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

// Message is an event with its trace.
type Message struct {
	event.Event
	Trace map[string]string // W3C traceparent and tracestate
}

// Publisher publishes messages to Kafka in order per key. Publish returns nil only when the broker has acknowledged all of them.
type Publisher interface {
	Publish(ctx context.Context, messages []Message) error
}

const (
	batchSize = 500                    // messages per poll: about 0.5 MB
	idlePoll  = time.Second            // for events of other replicas and from before a crash; this process's own writes wake the relay
	busyPoll  = 20 * time.Millisecond  // after a poll that found events, doubled up to idlePoll: more events are likely soon
	retryWait = 500 * time.Millisecond // after a failure, doubled up to retryMax
	retryMax  = 10 * time.Second
)

// Relay returns the actor that publishes the events of the outbox. An advisory lock elects one replica of the service as the
// leader: several relays that share the rows with SKIP LOCKED would publish out of order.
func (o *Outbox) Relay(to Publisher) run.Actor {
	published := prometheus.NewCounter(prometheus.CounterOpts{Name: "convoflow_outbox_published_total", Help: "Events published to Kafka.", ConstLabels: prometheus.Labels{"service": o.tel.Service}})
	age := prometheus.NewGauge(prometheus.GaugeOpts{Name: "convoflow_outbox_oldest_seconds", Help: "Age of the oldest event that is not published yet, as measured by the leading replica.", ConstLabels: prometheus.Labels{"service": o.tel.Service}})
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
			o.tel.Log.WarnContext(ctx, "the outbox relay failed, restarting", "error", err, "wait", wait)
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			wait = min(2*wait, retryMax)
		}
		return nil
	})
}

// lead publishes while this process is the leader. All its statements run on the connection that holds the lock, so a former
// leader cannot delete rows that the next leader is publishing.
func (o *Outbox) lead(ctx context.Context, to Publisher, published prometheus.Counter, age prometheus.Gauge) (progress bool, err error) {
	conn, release, err := o.db.Lead(ctx, "outbox")
	if err != nil {
		return false, err
	}
	defer release()
	for poll := idlePoll; ; {
		n, oldest, err := o.publishBatch(ctx, conn, to)
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

// publishBatch publishes the oldest events and returns how many, and the age of the oldest. It uses no cursor: ids are assigned
// before the commit, and a cursor would skip a row that commits late.
func (o *Outbox) publishBatch(ctx context.Context, conn *pgx.Conn, to Publisher) (n int, oldest time.Duration, err error) {
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
		return 0, found[0].Age, fmt.Errorf("delete published events from the outbox: %w", err)
	}
	return len(found), found[0].Age, nil
}
