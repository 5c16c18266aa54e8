// Command bench compares Convoflow with peers. scripts/bench builds the binaries and starts it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/convoflow/convoflow/bench"
)

const usage = `Compares Convoflow with nginx, pgbench and the limits of the machine: make bench ARGS='-only gateway -rounds 5 -seconds 4'

Writes a table to the terminal and all rounds to bench/results. The exit code is not 0 if something does not work, but never
because it is slow. docs/benchmarks.md explains the figures.

`

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // the shell's exit code for a program ended by SIGINT: 128 + 2
)

func main() { os.Exit(run()) }

func run() int {
	o := bench.Options{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() {
		_, _ = fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	only := flags.String("only", "", "benchmarks, comma-separated, of "+strings.Join(bench.Names(), ",")+" (default all)")
	seconds := flags.Int("seconds", 4, "length of one measurement")
	env := flags.String("env", "", "settings for the gateway and the services to try, such as GOGC=400,LOG_LEVEL=WARN")
	flags.IntVar(&o.Rounds, "rounds", 7, "rounds of each benchmark")
	flags.IntVar(&o.Leads, "leads", 200_000, "made-up leads of the benchmark leads; a fifth as many calls")
	flags.IntVar(&o.Rows, "rows", 100_000, "rows of each file that the benchmark bulk imports")
	flags.BoolVar(&o.Profile, "profile", false, "also store CPU profiles of the gateway and the services under full load, in the directory of results")
	flags.StringVar(&o.Bin, "bin", "bin", "directory of the binaries gateway, auth and crm")
	flags.StringVar(&o.Results, "results", "bench/results", "directory for the results")
	flags.StringVar(&o.Commit, "commit", "", "commit of the binaries, for the results")
	err := flags.Parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return exitUsage
	}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	if *env != "" {
		o.Env = strings.Split(*env, ",")
	}
	o.Length = time.Duration(*seconds) * time.Second
	if err := o.Check(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
	err = bench.Run(ctx, o, os.Stdout)
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		fmt.Fprintln(os.Stderr, "bench: interrupted; everything it started has stopped")
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		return exitFailed
	}
	return 0
}
