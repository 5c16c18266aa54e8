package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/platform"
	"github.com/convoflow/convoflow/services/crm"
)

const seedUsage = `Usage: convoflow seed [--leads N] [--calls N] [--agents N] [--seed N] [--data-dir DIR]

Writes made-up agents, leads, calls and follow-ups of the last 180 days into the tables of crm, to measure and to try the platform.
Their ids begin with 5eed. The other services do not know them, and the agents cannot log in: an admin sees them. A repetition with
the same numbers goes on where the last one was interrupted. The platform may be running; use the settings that it was started with.

Flags:
`

func seed(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("seed", flag.ContinueOnError)
	flags.SetOutput(stdout)
	var o crm.SeedOptions
	flags.IntVar(&o.Leads, "leads", 10_000, "leads")
	flags.IntVar(&o.Calls, "calls", 2_000, "calls; some have no agent and are left out")
	flags.IntVar(&o.Agents, "agents", 10, "agents")
	flags.Int64Var(&o.Seed, "seed", 1, "the same number makes the same data, another one makes more")
	dataDir := flags.String("data-dir", ".convoflow", "data directory of the platform")
	flags.Usage = func() {
		_, _ = io.WriteString(stdout, seedUsage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return ignoreHelp(usageError{err})
	}
	if flags.NArg() > 0 {
		return usageError{errors.New("seed takes only flags, try: convoflow seed --help")}
	}
	if err := o.Check(); err != nil {
		return usageError{err}
	}
	if err := conf.ExportFiles("OTEL_"); err != nil {
		return err
	}
	took, shown := clock.Stopwatch(), -5
	o.Progress = func(kind string, done, all int) {
		if percent := 100 * done / all; percent/5 != shown/5 || done == all {
			shown = percent
			say(stdout, "  %-10s %9d of %d  %3d %%  %4.0f s\n", kind, done, all, percent, took().Seconds())
		}
		if done == all {
			shown = -5 // the next kind begins
		}
	}
	switch err := neverStarted(platform.Seed(ctx, beside(*dataDir, stderr), o)); {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%w: the same command goes on from here", errInterrupted)
	case err != nil:
		return err
	}
	say(stdout, "Done in %.0f s: analytics and lists show the data to an admin.\n", took().Seconds())
	return nil
}
