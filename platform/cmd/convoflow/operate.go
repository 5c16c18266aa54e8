package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/platform"
)

// operator is a command of operators: its flags, and what it does with them.
type operator struct {
	*flag.FlagSet
	dataDir *string
	stderr  io.Writer
}

// newOperator returns a command with the flag --data-dir. about is the text before the flags.
func newOperator(name, about string, stdout, stderr io.Writer) operator {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(stdout)
	flags.Usage = func() {
		say(stdout, "%s\n\nThe platform's settings come from the environment: use those that it was started with.\n\nFlags:\n", about)
		flags.PrintDefaults()
	}
	return operator{flags, flags.String("data-dir", ".convoflow", "data directory of the platform"), stderr}
}

// run parses the arguments and runs do with the options of the platform.
func (o operator) run(args []string, do func(platform.Options) error) error {
	if err := parse(o.FlagSet, args); err != nil {
		return ignoreHelp(err)
	}
	if err := conf.ExportFiles("OTEL_"); err != nil {
		return err
	}
	return neverStarted(do(beside(*o.dataDir, o.stderr)))
}

func runDoctor(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := newOperator("doctor", `Usage: convoflow doctor [--url URL] [--data-dir DIR]

Checks the settings and everything that the platform depends on, and says what is wrong and what to do: databases, migrations, outboxes,
topics, lag, dead letters, clocks, the storage of recordings, ffmpeg, the AI providers. Exit code 1 if something does not work.`, stdout, stderr)
	url := o.String("url", "http://127.0.0.1:8000", "of the platform's API")
	return o.run(args, func(options platform.Options) error {
		report, err := platform.Doctor(ctx, options, *url)
		if err != nil {
			return err
		}
		return report.Write(stdout)
	})
}

// subcommand removes the second word of a command, such as status in outbox status.
func subcommand(name, word string, args []string) ([]string, error) {
	if len(args) > 0 && args[0] == word {
		return args[1:], nil
	}
	if len(args) > 0 && (args[0] == "--help" || args[0] == "-h") {
		return args, nil
	}
	return nil, usageError{fmt.Errorf("%s has one command, try: convoflow %s %s --help", name, name, word)}
}

func outboxStatus(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	args, err := subcommand("outbox", "status", args)
	if err != nil {
		return err
	}
	o := newOperator("outbox status", `Usage: convoflow outbox status [--data-dir DIR]

Shows the events of each service that are not published to Kafka yet, by topic, and which process publishes them.`, stdout, stderr)
	return o.run(args, func(options platform.Options) error { return platform.OutboxStatus(ctx, options, stdout) })
}

func usageReport(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := newOperator("usage", `Usage: convoflow usage [--days N] [--data-dir DIR]

Shows what was used of the AI providers, by model and agent, with the cost as far as prices are known, and the sizes of the tables.`, stdout, stderr)
	days := o.Int("days", 30, "so many days, today included")
	return o.run(args, func(options platform.Options) error {
		if *days < 1 {
			return usageError{errors.New("--days must be 1 or more")}
		}
		return platform.Usage(ctx, options, *days, stdout)
	})
}

func backup(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := newOperator("backup", `Usage: convoflow backup --to DIR [--recordings] [--data-dir DIR]

Writes the tables of all services at one moment (pg_dump) and the manifest of the recordings into a new directory; with --recordings the
recordings too, which buckets with versioning and replication do not need. Generated secrets are in it. The platform may be running.`, stdout, stderr)
	to := o.String("to", "", "new directory")
	copies := o.Bool("recordings", false, "copy the recordings")
	return o.run(args, func(options platform.Options) error {
		if *to == "" {
			return usageError{errors.New("say where to: convoflow backup --to DIR")}
		}
		about, err := platform.Backup(ctx, options, *to, *copies)
		if err != nil {
			return err
		}
		say(stdout, "%s has the tables of all services and the manifest of %d recordings (%d MB), %d of them copied.\nAfter a restore: convoflow events replay --service all --from %s\n",
			*to, about.Recordings.Files, about.Recordings.Bytes>>20, about.Recordings.Copied, about.ReplayFrom.UTC().Format(time.RFC3339))
		return nil
	})
}

func restore(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := newOperator("restore", `Usage: convoflow restore --from DIR [--overwrite] [--data-dir DIR]

Replaces the data of the platform, which must be stopped, by a backup. Recordings that the storage has not are copied from the backup;
those that are in neither are listed. Exit code 1 if there are any.`, stdout, stderr)
	from := o.String("from", "", "directory of the backup")
	overwrite := o.Bool("overwrite", false, "replace the data that is there")
	return o.run(args, func(options platform.Options) error {
		if *from == "" {
			return usageError{errors.New("say what: convoflow restore --from DIR")}
		}
		about, err := platform.Restore(ctx, options, *from, *overwrite, func(key string) { say(stdout, "missing: %s\n", key) })
		if err != nil {
			return err
		}
		say(stdout, "Restored the backup of %s: %d recordings, %d of them from the backup, %d missing.\nNext: convoflow events replay --service all --from %s, then start the platform\n",
			about.CreatedAt.UTC().Format(time.RFC3339), about.Recordings.Files, about.Recordings.Copied, about.Recordings.Missing, about.ReplayFrom.UTC().Format(time.RFC3339))
		if about.Recordings.Missing > 0 {
			return fmt.Errorf("%d recordings are missing", about.Recordings.Missing)
		}
		return nil
	})
}

func replay(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	args, err := subcommand("events", "replay", args)
	if err != nil {
		return err
	}
	consumers := []string{"auth", "calls", "crm", "notify"}
	o := newOperator("events replay", `Usage: convoflow events replay --service NAME|all --from TIME [--dry-run] [--data-dir DIR]

Makes a service, which must be stopped, read again what was published to Kafka since a time, and nothing that it has not read before. Its
inbox ignores what it has handled: after a restore, what is newer than the backup is applied again. KAFKA_BROKERS and the other
settings of Kafka say where; without them it is the broker of the platform on --data-dir, which must be stopped.`, stdout, stderr)
	name := o.String("service", "", "auth, calls, crm, notify or all")
	from := o.String("from", "", "RFC 3339, such as 2026-11-26T10:00:00Z, or a duration until now, such as 30m")
	dryRun := o.Bool("dry-run", false, "change nothing")
	return o.run(args, func(options platform.Options) error {
		services := consumers
		if *name != "all" {
			services = []string{*name}
		}
		since, err := moment(*from)
		if err != nil || !slices.Contains(consumers, services[0]) {
			return usageError{errors.Join(errors.New("say which service and since when: convoflow events replay --service NAME|all --from TIME"), err)}
		}
		options.Environ = os.Environ()
		rewound, err := platform.Rewind(ctx, options, services, since, *dryRun)
		if errors.Is(err, bus.ErrConsuming) || errors.Is(err, platform.ErrRunning) {
			return fmt.Errorf("%w; stop all replicas first, for half a minute after a crash", err)
		}
		if err != nil {
			return err
		}
		writeRewound(stdout, rewound, *dryRun)
		return nil
	})
}

func writeRewound(out io.Writer, rewound map[string][]bus.Rewound, dryRun bool) {
	verb := "will read again"
	if dryRun {
		verb = "would read again"
	}
	for _, service := range slices.Sorted(maps.Keys(rewound)) {
		all := int64(0)
		for _, r := range rewound[service] {
			say(out, "%-8s %s %s/%d from offset %d to %d\n", service, verb, r.Topic, r.Partition, r.From, r.To-1)
			all += r.To - r.From
		}
		say(out, "%-8s %s %d messages\n", service, verb, all)
	}
}

// moment parses a time, or a duration before now.
func moment(text string) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago > 0 {
		return clock.System{}.Now().Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("--from %q is neither a time such as 2026-11-26T10:00:00Z nor a duration such as 30m", text)
	}
	return at, nil
}
