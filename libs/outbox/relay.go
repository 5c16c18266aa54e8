package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Message is an event with its trace.
type Message struct {
	event.Event
	Trace map[string]string // W3C traceparent and tracestate
}

// Publisher publishes messages of one topic to Kafka, in order per key. Publish returns the indexes of the messages that the broker
// has acknowledged, and an error unless these are all.
type Publisher interface {
	Publish(ctx context.Context, topic string, messages []Message) (acknowledged []int, err error)
}

const (
	batchSize      = 500                    // messages of one topic per poll: about 0.5 MB
	maxHeld        = 5000                   // the most unpublished messages that a poll reads past: they may all be of one partition
	idlePoll       = time.Second            // for events of other replicas and from before a crash; this process's own writes wake the relay
	busyPoll       = 20 * time.Millisecond  // after a poll that found events, doubled up to idlePoll: more events are likely soon
	minPoll        = 10 * time.Millisecond  // between polls: commits that come faster share one
	publishTimeout = 10 * time.Second       // of one batch
	retryFirst     = 100 * time.Millisecond // after a failure, doubled up to retryMax
	retryMax       = 2 * time.Second
)

// Relay returns the actor that publishes the events of the outbox. An advisory lock elects one replica of the service as the
// leader: several relays that share the rows with SKIP LOCKED would publish out of order. A topic that cannot be written to
// does not delay the others.
func (o *Outbox) Relay(to Publisher) run.Actor {
	published := prometheus.NewCounter(prometheus.CounterOpts{Name: "convoflow_outbox_published_total", Help: "Events published to Kafka.", ConstLabels: prometheus.Labels{"service": o.tel.Service}})
	backlog := newBacklog(o.tel.Service)
	return run.Func(func(ctx context.Context) error {
		if err := errors.Join(o.tel.Metrics.Register(published), o.tel.Metrics.Register(backlog)); err != nil {
			return fmt.Errorf("register the relay's metrics: %w", err)
		}
		for wait := retryFirst; ctx.Err() == nil; {
			led := clock.Stopwatch()
			err := o.lead(ctx, to, published, backlog)
			if ctx.Err() != nil {
				return nil
			}
			if led() > retryMax {
				wait = retryFirst
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

// leader publishes the outbox while this process leads. All its statements run on the connection that holds the lock, so a former
// leader cannot delete rows that the next leader is publishing.
type leader struct {
	to        Publisher
	conn      *pgx.Conn
	tel       telemetry.Set
	published prometheus.Counter
	backlog   *backlog
	topics    map[string]topic // those whose events are being published, or could not be
	results   chan result
	publishes sync.WaitGroup
}

// topic is the state of a topic whose events are being published, or could not be.
type topic struct {
	publishing bool
	held       int                  // messages that the last attempt could not publish
	wait       time.Duration        // before the next attempt
	failed     func() time.Duration // time since the last attempt failed
}

type result struct {
	topic     string
	published []int64 // ids
	held      int
	err       error
}

func (o *Outbox) lead(ctx context.Context, to Publisher, published prometheus.Counter, b *backlog) error {
	conn, release, err := o.db.Lead(ctx, "outbox")
	if err != nil {
		return err
	}
	defer release()
	b.lead(true)
	defer b.lead(false)
	// A delete that a crash of PostgreSQL undoes is an event that is published twice, as after a crash of this process before the delete.
	if _, err := conn.Exec(ctx, `set synchronous_commit = off`); err != nil {
		return fmt.Errorf("prepare to publish: %w", err)
	}
	l := &leader{to: to, conn: conn, tel: o.tel, published: published, backlog: b, topics: map[string]topic{}, results: make(chan result)}
	publishing, cancel := context.WithCancel(ctx)
	defer l.publishes.Wait()
	defer cancel()
	for poll := idlePoll; ; {
		polled := clock.Stopwatch()
		found, err := l.publish(publishing)
		if err != nil {
			return err
		}
		poll = min(2*poll, idlePoll)
		if found {
			poll = busyPoll
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-l.results:
			err = l.finish(ctx, r)
		case <-o.wake:
			pause(ctx, minPoll-polled())
			err = l.finishEnded(ctx) // or the poll would pass over their topics
		case <-time.After(min(poll, l.retryIn())):
		}
		if err != nil {
			return err
		}
	}
}

// finishEnded finishes the publishes that have ended.
func (l *leader) finishEnded(ctx context.Context) error {
	for {
		select {
		case r := <-l.results:
			if err := l.finish(ctx, r); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// pause returns after d, or when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// retryIn returns the time until the events of a topic that failed are due.
func (l *leader) retryIn() time.Duration {
	in := idlePoll
	for _, t := range l.topics {
		if !t.publishing {
			in = min(in, max(0, t.wait-t.failed()))
		}
	}
	return in
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

// oldest reads the oldest events of each topic but those of $1. The recursion finds the topics by their index. There is no
// cursor: ids are assigned before the commit, and a cursor would skip a row that commits late.
const oldest = `
	with recursive topics as (
		(select topic from outbox order by topic limit 1)
		union all
		select (select o.topic from outbox o where o.topic > t.topic order by o.topic limit 1) from topics t where t.topic is not null
	)
	select o.id, o.event_id::text, o.topic, o.key, o.type, o.time, o.data, o.trace, now() - o.created_at as age
	from topics t cross join lateral (select * from outbox where topic = t.topic order by id limit $2) o
	where t.topic <> all($1)
	order by o.topic, o.id`

// publish starts to publish the oldest events of each topic whose turn it is, and reports whether there are any.
func (l *leader) publish(ctx context.Context) (found bool, err error) {
	blocked, limit := []string{}, batchSize
	for name, t := range l.topics {
		if t.publishing || t.failed() < t.wait {
			blocked = append(blocked, name)
		} else {
			limit = max(limit, batchSize+min(t.held, maxHeld))
		}
	}
	rows, err := l.conn.Query(ctx, oldest, blocked, limit)
	if err != nil {
		return false, fmt.Errorf("read the outbox: %w", err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		return false, fmt.Errorf("read the outbox: %w", err)
	}
	batches, ids, ages := map[string][]Message{}, map[string][]int64{}, map[string][]time.Duration{}
	for _, r := range events {
		m := Message{Event: event.Event{ID: r.EventID, Type: r.Type, Topic: r.Topic, Key: r.Key, Source: "/convoflow/" + l.tel.Service, Time: r.Time.UTC(), Data: r.Data}}
		if err := json.Unmarshal(r.Trace, &m.Trace); err != nil {
			return false, fmt.Errorf("read the trace of event %s: %w", r.EventID, err)
		}
		if batches[r.Topic] == nil {
			l.backlog.set(r.Topic, r.Age)
		}
		batches[r.Topic], ids[r.Topic], ages[r.Topic] = append(batches[r.Topic], m), append(ids[r.Topic], r.ID), append(ages[r.Topic], r.Age)
	}
	for name := range l.topics {
		if batches[name] == nil && !slices.Contains(blocked, name) { // somebody else has deleted what could not be published
			delete(l.topics, name)
			l.backlog.clear(name)
		}
	}
	for name, messages := range batches {
		l.topics[name] = topic{publishing: true, wait: l.topics[name].wait}
		l.publishes.Go(func() {
			sending, cancel := context.WithTimeout(ctx, publishTimeout)
			defer cancel()
			published := l.trace(ctx, messages, ages[name])
			acknowledged, err := l.to.Publish(sending, name, messages)
			published(err)
			r := result{topic: name, held: len(messages) - len(acknowledged), err: err}
			for _, i := range acknowledged {
				r.published = append(r.published, ids[name][i])
			}
			select {
			case l.results <- r:
			case <-ctx.Done(): // it no longer leads; the next leader publishes the events again
			}
		})
	}
	return len(events) > 0, nil
}

// finish deletes the events that were published. After a failure it delays the topic's next attempt.
func (l *leader) finish(ctx context.Context, r result) error {
	before := l.topics[r.topic].wait
	if len(r.published) > 0 {
		if _, err := l.conn.Exec(ctx, `delete from outbox where topic = $1 and id = any($2)`, r.topic, r.published); err != nil {
			return fmt.Errorf("delete published events from the outbox: %w", err)
		}
		l.published.Add(float64(len(r.published)))
	}
	if r.err != nil {
		if before == 0 {
			l.tel.Log.WarnContext(ctx, "events were not published, retrying until they are", "topic", r.topic, "error", r.err)
		}
		l.topics[r.topic] = topic{held: r.held, wait: min(max(2*before, retryFirst), retryMax), failed: clock.Stopwatch()}
		return nil
	}
	if before > 0 {
		l.tel.Log.InfoContext(ctx, "events are published again", "topic", r.topic)
	}
	delete(l.topics, r.topic)
	l.backlog.clear(r.topic)
	return nil
}
