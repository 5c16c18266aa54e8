package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/platform"
)

const dlqUsage = `Usage:
  convoflow dlq list    [--all]                     dead-letter topics and their messages
  convoflow dlq show    TOPIC OFFSET                one message with its headers and payload, which is personal data
  convoflow dlq requeue TOPIC [--offset OFFSET]     give all messages, or one, to the service that could not handle them

A message is dead-lettered when a service can never handle it; its reason is the error code. Repair the service first. Only that
service gets the message again, and it ignores what it has handled. KAFKA_BROKERS and the other settings of Kafka say where the
topics are; without them it is the broker of the platform that runs on --data-dir.

Flags:
`

// deadLetters implements the command dlq.
func deadLetters(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("dlq", flag.ContinueOnError)
	flags.SetOutput(out)
	all := flags.Bool("all", false, "list: also the messages that have been requeued")
	offset := flags.Int64("offset", -1, "requeue: only the message with this offset")
	dataDir := flags.String("data-dir", ".convoflow", "data directory of the platform")
	flags.Usage = func() {
		_, _ = io.WriteString(out, dlqUsage)
		flags.PrintDefaults()
	}
	var words []string
	for len(args) > 0 { // flags may be anywhere
		if err := flags.Parse(args); err != nil {
			return ignoreHelp(usageError{err})
		}
		if args = flags.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	var do func(*bus.Kafka) error
	switch {
	case len(words) == 1 && words[0] == "list":
		do = func(k *bus.Kafka) error { return listDeadLetters(ctx, k, *all, out) }
	case len(words) == 3 && words[0] == "show":
		n, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			return usageError{fmt.Errorf("%q is not an offset", words[2])}
		}
		do = func(k *bus.Kafka) error { return showDeadLetter(ctx, k, words[1], n, out) }
	case len(words) == 2 && words[0] == "requeue":
		do = func(k *bus.Kafka) error { return requeue(ctx, k, words[1], *offset, out) }
	default:
		return usageError{errors.New("say what to do: convoflow dlq list, convoflow dlq show TOPIC OFFSET or convoflow dlq requeue TOPIC; try: convoflow dlq --help")}
	}
	kafka, err := platform.Kafka(platform.Options{DataDir: *dataDir, Environ: os.Environ()})
	if err != nil {
		return err
	}
	defer kafka.Close()
	return do(kafka)
}

func listDeadLetters(ctx context.Context, k *bus.Kafka, all bool, out io.Writer) error {
	topics, err := k.DeadLetterTopics(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	found := 0
	for _, topic := range topics {
		letters, err := k.DeadLetters(ctx, topic, all)
		if err != nil {
			return err
		}
		for _, d := range letters {
			if found++; found == 1 {
				_, _ = fmt.Fprintln(table, "TOPIC\tOFFSET\tTYPE\tREASON\tAT\tKEY")
			}
			_, _ = fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\n", topic, d.Offset, d.Headers["ce_type"], d.Reason, d.At.Format(time.RFC3339), d.Key)
		}
	}
	if found == 0 {
		_, err := fmt.Fprintln(out, "There are no dead letters.")
		return err
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "\nNext: convoflow dlq show TOPIC OFFSET, and when the cause is repaired: convoflow dlq requeue TOPIC")
	return err
}

func showDeadLetter(ctx context.Context, k *bus.Kafka, topic string, offset int64, out io.Writer) error {
	d, err := deadLetter(ctx, k, topic, offset)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "topic    %s\ngroup    %s\nsource   %s\nkey      %s\nreason   %s\ndetail   %s\nat       %s\n", d.Topic, d.Group, d.Source, d.Key, d.Reason, d.Detail, d.At.Format(time.RFC3339))
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		_, _ = fmt.Fprintf(out, "%s: %s\n", name, d.Headers[name])
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, d.Value, "", "  ") != nil { // not JSON, which may be the reason
		pretty.Reset()
		pretty.Write(d.Value)
	}
	_, err = fmt.Fprintf(out, "\n%s\n", pretty.Bytes())
	return err
}

// letters is the part of a bus.Kafka that requeue uses.
type letters interface {
	DeadLetters(ctx context.Context, topic string, all bool) ([]bus.DeadLetter, error)
	Requeue(ctx context.Context, topic string, letters []bus.DeadLetter, upTo int64) error
}

func deadLetter(ctx context.Context, k letters, topic string, offset int64) (bus.DeadLetter, error) {
	found, err := k.DeadLetters(ctx, topic, true)
	if err != nil {
		return bus.DeadLetter{}, err
	}
	for _, d := range found {
		if d.Offset == offset {
			return d, nil
		}
	}
	return bus.DeadLetter{}, fmt.Errorf("%s has no message with the offset %d; try: convoflow dlq list --all", topic, offset)
}

// requeue gives the messages of a topic, or the one with that offset unless it is negative, to their group. What counts as requeued is
// everything before an offset: a single message does only if it is the oldest that is not, and the output says so otherwise.
func requeue(ctx context.Context, k letters, topic string, offset int64, out io.Writer) error {
	chosen, err := k.DeadLetters(ctx, topic, false)
	if err != nil {
		return err
	}
	var upTo int64
	if len(chosen) > 0 {
		upTo = chosen[len(chosen)-1].Offset + 1
	}
	note := ""
	if offset >= 0 {
		d, err := deadLetter(ctx, k, topic, offset)
		if err != nil {
			return err
		}
		isOpen := slices.ContainsFunc(chosen, func(o bus.DeadLetter) bool { return o.Offset == offset })
		switch {
		case !isOpen:
			upTo, note = 0, "It had been requeued before.\n"
		case chosen[0].Offset == offset:
			upTo = offset + 1
		default:
			upTo, note = 0, fmt.Sprintf("It stays in the list, because older ones have not been requeued, from offset %d on. The next requeue of all gives it to %s again, which ignores it if it has handled it.\n", chosen[0].Offset, d.Group)
		}
		chosen = []bus.DeadLetter{d}
	}
	if len(chosen) == 0 {
		_, err := fmt.Fprintln(out, "There are no dead letters to requeue.")
		return err
	}
	if err := k.Requeue(ctx, topic, chosen, upTo); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "Requeued %d to %s. What fails again is in %s again: convoflow dlq list\n%s", len(chosen), chosen[0].Group, topic, note)
	return err
}
