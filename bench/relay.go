package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const (
	relayedSize  = 20_000 // events of a round
	relayedBatch = 500    // messages of a request of the peer, as many as the relay reads at once
	relayPoll    = 5 * time.Millisecond
	relayLimit   = time.Minute
)

// relayed is an outbox with its relay, in this process, and a PostgreSQL and a broker.
type relayed struct {
	environment
	pool *pgxpool.Pool
	out  *outbox.Outbox
	peer *kafka.Writer
}

// relay compares how fast the relay publishes the events of an outbox, in order and deleting each, with a producer that sends the same
// messages in batches and reads nothing.
func relay(ctx context.Context, b *bench) (result report.Result, err error) {
	b.printf("relay: events/s from an outbox to Kafka ÷ a producer of kafka-go that sends the same messages, %d in a request", relayedBatch)
	result = report.Result{Name: "relay", Peer: "producer", Unit: "events/s", Floor: 0.30, Goal: 0.50}
	r := &relayed{}
	defer func() { err = errors.Join(err, r.close()) }()
	postgres, err := r.open(ctx)
	if err != nil {
		return result, err
	}
	side := func(into *report.Measure, publish func(context.Context) (time.Duration, error), parts ...part) func() error {
		return func() (err error) {
			*into, err = observeParts(parts, process.Any, func() (int, time.Duration, error) {
				took, err := publish(ctx)
				return relayedSize, took, err
			})
			return err
		}
	}
	return b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, side(&round.Ours, r.publish, part{"PostgreSQL", postgres}), side(&round.Peer, r.produce))
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
}

func (r *relayed) open(ctx context.Context) (subject, error) {
	postgres, err := r.startPostgres(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.start(); err != nil {
		return nil, err
	}
	tel := telemetry.Nop()
	db, err := pg.Open(ctx, pg.Config{URL: conf.Secret(postgres.URL()), MaxConns: databaseConnections}, "relay", tel)
	if err != nil {
		return nil, err
	}
	r.add(func() error { db.Close(); return nil })
	if err := db.Migrate(ctx, outbox.Migrations()); err != nil {
		return nil, err
	}
	cfg := bus.Defaults()
	cfg.Brokers = []string{r.broker}
	to, err := bus.Connect(cfg, "bench", events.Topics())
	if err != nil {
		return nil, err
	}
	r.add(func() error { to.Close(); return nil })
	r.pool, r.out = db.Pool(), outbox.New(db, tel)
	running, cancel := context.WithCancel(ctx)
	var actors errgroup.Group
	actors.Go(func() error { return r.out.Relay(to).Run(running) })
	r.add(func() error { cancel(); return actors.Wait() })
	r.peer = &kafka.Writer{
		Addr: kafka.TCP(r.broker), Topic: events.AgentsTopic, RequiredAcks: kafka.RequireAll, Balancer: kafka.Murmur2Balancer{},
		BatchSize: relayedBatch, BatchTimeout: relayPoll,
	}
	r.add(r.peer.Close)
	return postgres, nil
}

// publish fills the outbox, and returns how long the relay takes to empty it.
func (r *relayed) publish(ctx context.Context) (time.Duration, error) {
	if _, err := r.pool.Exec(ctx, `
		insert into outbox (event_id, topic, key, type, time, data, trace)
		select gen_random_uuid(), $1, gen_random_uuid()::text, $2, now(), $3, '{}' from generate_series(1, $4)`,
		events.AgentsTopic, events.AgentRegistered.Name, events.AgentRegistered.New(clock.System{}.Now(), newAgent(0)).Data, relayedSize); err != nil {
		return 0, fmt.Errorf("fill the outbox: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, relayLimit)
	defer cancel()
	took := clock.Stopwatch()
	r.out.Wake()
	for {
		var left bool
		if err := r.pool.QueryRow(ctx, `select exists (select from outbox)`).Scan(&left); err != nil {
			return 0, fmt.Errorf("look whether the outbox is empty: %w", err)
		}
		if !left {
			return took(), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("the outbox is not empty: %w", ctx.Err())
		case <-time.After(relayPoll):
		}
	}
}

// produce sends as many messages of the same size. They are made before, as the rows of the outbox are.
func (r *relayed) produce(ctx context.Context) (time.Duration, error) {
	e := events.AgentRegistered.New(clock.System{}.Now(), newAgent(0))
	messages := make([]kafka.Message, relayedSize)
	for i := range messages {
		id := event.NewID()
		messages[i] = kafka.Message{Key: []byte(id), Value: e.Data, Headers: []kafka.Header{
			{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(id)}, {Key: "ce_source", Value: []byte("bench")},
			{Key: "ce_type", Value: []byte(e.Type)}, {Key: "ce_time", Value: []byte("2026-11-24T09:00:00Z")}, {Key: "content-type", Value: []byte("application/json")},
		}}
	}
	took := clock.Stopwatch()
	if err := r.peer.WriteMessages(ctx, messages...); err != nil {
		return 0, fmt.Errorf("produce: %w", err)
	}
	return took(), nil
}
