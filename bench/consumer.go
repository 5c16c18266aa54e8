package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
)

const (
	consumerSize  = 20_000 // events of a round
	consumerBatch = 250    // events per transaction, as in libs/bus
	consumerPairs = 4      // transactions at once, as many as a consumer has
	consumerLast  = 200    // events, of which each partition has some: 12 × (11/12)^200 is nothing
	consumerPoll  = 10 * time.Millisecond
)

// What the handler of an agent's event does, and the inbox.
const (
	markEvents  = `insert into crm.inbox (event_id) select distinct unnest($1::uuid[]) order by 1 on conflict do nothing returning event_id::text`
	upsertAgent = `insert into crm.agents (id, version, name, email, active) values ($1, $2, $3, $4, $5)
		on conflict (id) do update set version = excluded.version, name = excluded.name, email = excluded.email, active = excluded.active where excluded.version > agents.version`
)

// feed is crm with a PostgreSQL and a broker.
type feed struct {
	environment
	pool *pgxpool.Pool
	from *bus.Kafka
	crm  *service
}

// consumer compares how fast crm applies the events of agents, each with its row in the inbox, with the same statements in batches that
// were written by hand, without Kafka.
func consumer(ctx context.Context, b *bench) (result report.Result, err error) {
	b.printf("consumer: events/s that crm reads from Kafka and applies ÷ the same statements in batches of %d", consumerBatch)
	result = report.Result{Name: "consumer", Peer: "batches", Unit: "events/s", Floor: 0.50, Goal: 0.85}
	r := &feed{}
	defer func() { err = errors.Join(err, r.close()) }()
	postgres, err := r.startPostgres(ctx)
	if err != nil {
		return result, err
	}
	if err := r.start(); err != nil {
		return result, err
	}
	r.crm, err = r.startService(ctx, b, "crm", process.Any, "DATABASE_URL="+postgres.URL(), fmt.Sprintf("DATABASE_MAX_CONNS=%d", databaseConnections), "CALLS_URL="+r.url)
	if err != nil {
		return result, err
	}
	if err := r.crm.ready(ctx); err != nil {
		return result, err
	}
	if r.pool, err = pgxpool.New(ctx, postgres.URL()); err != nil {
		return result, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	r.add(func() error { r.pool.Close(); return nil })
	cfg := bus.Defaults()
	cfg.Brokers = []string{r.broker}
	if r.from, err = bus.Connect(cfg, "bench", events.Topics()); err != nil {
		return result, err
	}
	r.add(func() error { r.from.Close(); return nil })
	if _, err := r.apply(ctx, consumerBatch); err != nil { // until crm has joined its group
		return result, err
	}
	database := part{"PostgreSQL", postgres}
	side := func(into *report.Measure, do func(context.Context, int) (time.Duration, error), parts ...part) func() error {
		return func() (err error) {
			*into, err = observeParts(parts, process.Any, func() (int, time.Duration, error) {
				took, err := do(ctx, consumerSize)
				return consumerSize, took, err
			})
			return err
		}
	}
	result, err = b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, side(&round.Ours, r.apply, part{"crm", r.crm}, database), side(&round.Peer, r.batches, database))
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
	if err != nil {
		return result, err
	}
	return result, b.profile(ctx, "consumer", r.crm.admin, func(d time.Duration) error {
		for took := clock.Stopwatch(); took() < d; {
			if _, err := r.apply(ctx, consumerSize); err != nil {
				return err
			}
		}
		return nil
	})
}

func newAgent(n int) events.Agent {
	return events.Agent{AgentID: event.NewID(), Version: 1, FullName: fmt.Sprint("Agent ", n), Email: fmt.Sprint(n, "@example.com"), Role: "agent", IsActive: true}
}

// apply publishes events while crm is paused, and returns how long crm takes to apply all of them.
func (r *feed) apply(ctx context.Context, n int) (time.Duration, error) {
	now := clock.System{}.Now()
	messages := make([]outbox.Message, n)
	for i := range messages {
		messages[i] = outbox.Message{Event: events.AgentRegistered.New(now, newAgent(i))}
	}
	// A partition is applied in order, and each has some of the last events: when these are applied, all are.
	var last []string
	for _, m := range messages[n-min(n, consumerLast):] {
		last = append(last, m.ID)
	}
	if err := r.crm.Pause(); err != nil {
		return 0, fmt.Errorf("pause crm: %w", err)
	}
	_, err := r.from.Publish(ctx, events.AgentsTopic, messages)
	took := clock.Stopwatch()
	if err := errors.Join(err, r.crm.Resume()); err != nil {
		return 0, fmt.Errorf("publish %d events: %w", n, err)
	}
	err = until(ctx, consumerPoll, func(ctx context.Context) (bool, error) {
		var applied int
		if err := r.pool.QueryRow(ctx, `select count(*) from crm.inbox where event_id = any($1::uuid[])`, last).Scan(&applied); err != nil {
			return false, fmt.Errorf("count the last events that crm has applied: %w", err)
		}
		return applied == len(last), nil
	})
	return took(), err
}

// batches writes what apply does, with one round trip for the statements of a batch.
func (r *feed) batches(ctx context.Context, n int) (time.Duration, error) {
	took := clock.Stopwatch()
	var writers errgroup.Group
	writers.SetLimit(consumerPairs)
	for first := 0; first < n; first += consumerBatch {
		writers.Go(func() error {
			return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
				size := min(consumerBatch, n-first)
				ids, batch := make([]string, size), &pgx.Batch{}
				for i := range ids {
					ids[i] = event.NewID()
				}
				batch.Queue(markEvents, ids)
				for i := range size {
					a := newAgent(first + i)
					batch.Queue(upsertAgent, a.AgentID, a.Version, a.FullName, a.Email, a.IsActive)
				}
				return tx.SendBatch(ctx, batch).Close()
			})
		})
	}
	err := writers.Wait()
	return took(), err
}
