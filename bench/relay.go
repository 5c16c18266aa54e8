package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/bench/internal/postgres"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const (
	relayedSize  = 20_000 // events of a round
	relayedBatch = 500    // messages at once, as the relay
	relayPoll    = 5 * time.Millisecond
)

// relayed is an outbox with its relay in this process, with a PostgreSQL and a broker.
type relayed struct {
	environment
	postgres *postgres.Server
	db       *pg.DB
	out      *outbox.Outbox
	to       *bus.Kafka
}

// relay compares how fast the relay publishes the events of an outbox, and deletes them, with sending such messages in the same batches
// from memory.
func relay(ctx context.Context, b *bench) (result report.Result, err error) {
	b.printf("relay: events/s from an outbox to Kafka ÷ a bare producer that sends such messages, %d at a time", relayedBatch)
	result = report.Result{Name: "relay", Peer: "producer", Unit: "events/s", Floor: 0.30, Goal: 0.50}
	r := &relayed{}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.open(ctx); err != nil {
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
		err = alternate(oursFirst, side(&round.Ours, r.publish, part{"PostgreSQL", r.postgres}), side(&round.Peer, r.produce))
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
}

// open starts the relay.
func (r *relayed) open(ctx context.Context) (err error) {
	if r.postgres, err = r.startPostgres(ctx); err != nil {
		return err
	}
	if err := r.start(); err != nil {
		return err
	}
	tel := telemetry.Nop()
	if r.db, err = pg.Open(ctx, pg.Config{URL: conf.Secret(r.postgres.URL()), MaxConns: databaseConnections}, "relay", tel); err != nil {
		return err
	}
	r.add(func() error { r.db.Close(); return nil })
	if err := r.db.Migrate(ctx, outbox.Migrations()); err != nil {
		return err
	}
	cfg := bus.Defaults()
	cfg.Brokers = []string{r.broker}
	if r.to, err = bus.Connect(cfg, "bench", events.Topics()); err != nil {
		return err
	}
	r.add(func() error { r.to.Close(); return nil })
	r.out = outbox.New(r.db, tel)
	running, cancel := context.WithCancel(ctx)
	var actors errgroup.Group
	actors.Go(func() error { return r.out.Relay(r.to).Run(running) })
	r.add(func() error { cancel(); return actors.Wait() })
	return nil
}

// publish fills the outbox, and returns how long the relay takes to empty it.
func (r *relayed) publish(ctx context.Context) (time.Duration, error) {
	if _, err := r.db.Pool().Exec(ctx, `
		insert into outbox (event_id, topic, key, type, time, data, trace)
		select gen_random_uuid(), $1, gen_random_uuid()::text, $2, now(), $3, '{}' from generate_series(1, $4)`,
		events.AgentsTopic, events.AgentRegistered.Name, events.AgentRegistered.New(clock.System{}.Now(), newAgent(0)).Data, relayedSize); err != nil {
		return 0, fmt.Errorf("fill the outbox: %w", err)
	}
	took := clock.Stopwatch()
	r.out.Wake()
	err := until(ctx, relayPoll, func(ctx context.Context) (empty bool, err error) {
		if err := r.db.Pool().QueryRow(ctx, `select not exists (select from outbox)`).Scan(&empty); err != nil {
			return false, fmt.Errorf("look whether the outbox is empty: %w", err)
		}
		return empty, nil
	})
	return took(), err
}

// produce sends as many messages of the same size. They are made before, as the rows of the outbox are.
func (r *relayed) produce(ctx context.Context) (time.Duration, error) {
	now, messages := clock.System{}.Now(), make([]outbox.Message, relayedSize)
	for i := range messages {
		messages[i] = outbox.Message{Event: events.AgentRegistered.New(now, newAgent(0))}
	}
	took := clock.Stopwatch()
	for batch := range slices.Chunk(messages, relayedBatch) {
		if _, err := r.to.Publish(ctx, events.AgentsTopic, batch); err != nil {
			return 0, fmt.Errorf("produce: %w", err)
		}
	}
	return took(), nil
}
