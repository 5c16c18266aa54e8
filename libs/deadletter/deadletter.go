// Package deadletter has the commands with which an operator looks at dead letters and requeues them, for the platform and for each
// service. It refuses to know how they are read and written: bus does.
package deadletter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/convoflow/convoflow/libs/bus"
)

// List writes the messages of the dead-letter topics of a service, or of all if it is empty: those that have not been requeued, or all.
func List(ctx context.Context, k *bus.Kafka, service string, all bool, out io.Writer) error {
	topics, err := k.DeadLetterTopics(ctx)
	if err != nil {
		return err
	}
	topics = slices.DeleteFunc(topics, func(t string) bool { return service != "" && !strings.HasSuffix(t, "."+service+".dlq") })
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
	_, err = fmt.Fprintln(out, "\nNext: dlq show TOPIC OFFSET, and when the cause is repaired: dlq requeue TOPIC")
	return err
}

// Show writes one message with its headers and payload, which is personal data.
func Show(ctx context.Context, k *bus.Kafka, topic string, offset int64, out io.Writer) error {
	d, err := find(ctx, k, topic, offset)
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

// letters is the part of a bus.Kafka that Requeue uses.
type letters interface {
	DeadLetters(ctx context.Context, topic string, all bool) ([]bus.DeadLetter, error)
	Requeue(ctx context.Context, topic string, letters []bus.DeadLetter, upTo int64) error
}

func find(ctx context.Context, k letters, topic string, offset int64) (bus.DeadLetter, error) {
	found, err := k.DeadLetters(ctx, topic, true)
	if err != nil {
		return bus.DeadLetter{}, err
	}
	for _, d := range found {
		if d.Offset == offset {
			return d, nil
		}
	}
	return bus.DeadLetter{}, fmt.Errorf("%s has no message with the offset %d; try: dlq list --all", topic, offset)
}

// Requeue gives the messages of a topic, or the one with that offset unless it is negative, to their group. Kafka records only the
// offset before which everything was requeued. So a single message is recorded as requeued only if it is the oldest one left; the
// output says so if it is not.
func Requeue(ctx context.Context, k letters, topic string, offset int64, out io.Writer) error {
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
		d, err := find(ctx, k, topic, offset)
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
	_, err = fmt.Fprintf(out, "Requeued %d to %s. What fails again is in %s again: dlq list\n%s", len(chosen), chosen[0].Group, topic, note)
	return err
}
