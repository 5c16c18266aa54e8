package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/deadletter"
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
		do = func(k *bus.Kafka) error { return deadletter.List(ctx, k, "", *all, out) }
	case len(words) == 3 && words[0] == "show":
		n, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			return usageError{fmt.Errorf("%q is not an offset", words[2])}
		}
		do = func(k *bus.Kafka) error { return deadletter.Show(ctx, k, words[1], n, out) }
	case len(words) == 2 && words[0] == "requeue":
		do = func(k *bus.Kafka) error { return deadletter.Requeue(ctx, k, words[1], *offset, out) }
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
