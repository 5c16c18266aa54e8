package crm

import (
	"context"
	"errors"
	"fmt"

	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/seed"
	"github.com/convoflow/convoflow/services/crm/internal/store"
)

// SeedOptions say how much data Seed makes. The same Seed makes the same rows.
type SeedOptions struct {
	Agents, Leads, Calls int
	Seed                 int64
	// Progress is called after each chunk of rows, and around what is done with all of them. It may be nil.
	Progress func(kind string, done, all int)
}

// Check returns what is wrong with the options.
func (o SeedOptions) Check() error {
	switch {
	case o.Agents < 1 || o.Leads < 1 || o.Calls < 0 || o.Seed < 0:
		return errors.New("at least one agent and one lead are needed, and nothing is negative")
	case o.Leads > seed.MaxLeads:
		return fmt.Errorf("at most %d leads are possible", seed.MaxLeads)
	}
	return nil
}

const (
	seedChunk = 5000 // rows of a transaction
	// callsPerFollowUp is after how many calls there is a follow-up.
	callsPerFollowUp = 4
)

// Seed writes made-up agents, leads, calls and follow-ups into the tables of crm, and counts them. No event announces them: the other
// services do not know them. A repetition with the same options and seed goes on where the last one ended. crm may be running.
func Seed(ctx context.Context, cfg Config, tel telemetry.Set, o SeedOptions) error {
	if err := o.Check(); err != nil {
		return err
	}
	base, err := service.OpenDatabase(ctx, Contract(), cfg, tel)
	if err != nil {
		return err
	}
	defer base.Close()
	to := store.NewSeeder(base.DB)
	team := seed.Team{Seed: o.Seed, Agents: o.Agents, Leads: o.Leads, Now: base.Clock.Now()}
	steps := []func() error{
		func() error {
			return chunks(ctx, o, "agents", o.Agents, to.Agents, func(n int) (agent.Agent, bool) { return team.Agent(n), true })
		},
		func() error {
			return chunks(ctx, o, "leads", o.Leads, to.Leads, func(n int) (lead.Lead, bool) { return team.Lead(n), true })
		},
		func() error { return chunks(ctx, o, "calls", o.Calls, to.Calls, team.Call) },
		func() error {
			return chunks(ctx, o, "follow-ups", o.Calls/callsPerFollowUp, to.FollowUps, func(n int) (followup.FollowUp, bool) { return team.FollowUp(n, n*callsPerFollowUp) })
		},
		func() error {
			return o.last("analyzing", func() error { return to.Finish(ctx) })
		},
		func() error {
			aggregator := analytics.Aggregator{Rollups: store.NewAnalytics(base.DB)}
			return o.last("counting", func() error {
				_, err := aggregator.Recompute(ctx)
				return err
			})
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// last takes a step that reads all rows at once, and reports that it has begun and ended.
func (o SeedOptions) last(kind string, step func() error) error {
	report := func(done int) {
		if o.Progress != nil {
			o.Progress(kind, done, 1)
		}
	}
	report(0)
	if err := step(); err != nil {
		return err
	}
	report(1)
	return nil
}

// chunks writes all rows of a kind that are not written yet.
func chunks[T any](ctx context.Context, o SeedOptions, kind string, all int, write func(context.Context, int64, int, []T) (bool, error), row func(n int) (T, bool)) error {
	for chunk, done := 0, 0; done < all; chunk++ {
		var rows []T
		for ; done < all && done < (chunk+1)*seedChunk; done++ {
			if r, ok := row(done); ok {
				rows = append(rows, r)
			}
		}
		if _, err := write(ctx, o.Seed, chunk, rows); err != nil {
			return err
		}
		if o.Progress != nil {
			o.Progress(kind, done, all)
		}
	}
	return nil
}
