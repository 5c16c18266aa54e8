package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/clock"
)

const (
	effectRate = 500 // events per second
	effectPoll = time.Millisecond
	// The limits are the floors of the targets, in milliseconds.
	effectMedian, effectTail = 40, 200
)

// effect measures the time from the commit of a change to its effect in another service, while there are 500 changes per second: an agent,
// whose copy crm stores.
func effect(ctx context.Context, b *bench) (_ []report.Result, err error) {
	b.printf("effect: time from the commit of an event to its effect in crm, at %d events/s", effectRate)
	r := &relayed{}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	crm, err := r.startService(ctx, b, "crm", process.Any, "DATABASE_URL="+r.postgres.URL(), fmt.Sprintf("DATABASE_MAX_CONNS=%d", databaseConnections), "CALLS_URL="+r.url)
	if err != nil {
		return nil, err
	}
	if err := crm.ready(ctx); err != nil {
		return nil, err
	}
	if _, err := r.untilApplied(ctx); err != nil { // and crm has joined its group
		return nil, err
	}
	var times []time.Duration
	writing, stop := context.WithCancel(ctx)
	defer stop()
	length := time.Duration(b.Rounds) * b.Length
	written := make(chan error, 1)
	go func() {
		_, err := paced(writing, effectRate, length, func(ctx context.Context) error { _, err := r.write(ctx); return err })
		written <- err
	}()
	for watch := clock.Stopwatch(); watch() < length; {
		took, err := r.untilApplied(ctx)
		if err != nil {
			return nil, err
		}
		times = append(times, took)
	}
	if err := <-written; err != nil {
		return nil, err
	}
	slices.Sort(times)
	median := report.Result{Name: "effect p50", Peer: "limit", Unit: "ms", Floor: 1, Goal: 0.25}
	tail := report.Result{Name: "effect p99", Peer: "limit", Unit: "ms", Floor: 1, Goal: 0.25}
	median.Rounds, median.Ratio = limited(micros(middle(times))/1000, effectMedian)
	tail.Rounds, tail.Ratio = limited(micros(p99(times))/1000, effectTail)
	tail.Notes = []string{fmt.Sprintf("of %d changes, looked for every millisecond, beside %d others per second", len(times), effectRate)}
	return []report.Result{median, tail}, nil
}

// write commits an agent's event, and returns the agent's id.
func (r *relayed) write(ctx context.Context) (string, error) {
	agent := newAgent(0)
	err := r.db.InTx(ctx, func(ctx context.Context) error {
		return r.out.Append(ctx, events.AgentRegistered.New(clock.System{}.Now(), agent))
	})
	return agent.AgentID, err
}

// untilApplied commits an event, and returns after what time crm has stored its agent.
func (r *relayed) untilApplied(ctx context.Context) (time.Duration, error) {
	id, err := r.write(ctx)
	if err != nil {
		return 0, err
	}
	took := clock.Stopwatch()
	err = until(ctx, effectPoll, func(ctx context.Context) (applied bool, err error) {
		if err := r.db.Pool().QueryRow(ctx, `select exists (select from crm.agents where id = $1)`, id).Scan(&applied); err != nil {
			return false, fmt.Errorf("look whether crm has applied an event: %w", err)
		}
		return applied, nil
	})
	return took(), err
}
