package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/deadletter"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// deadLetterCommands are the commands for the dead letters of a service: in a cluster its pods may reach Kafka, and an operator may not.
func deadLetterCommands(contract Contract, cfg Settings, stdout io.Writer) []run.Command {
	return []run.Command{
		deadLetters("dlq list", "[--all]: show the dead letters of this service, or also those that have been requeued", contract, cfg,
			func(ctx context.Context, k *bus.Kafka, args []string) error {
				if len(args) > 1 || len(args) == 1 && args[0] != "--all" {
					return errors.New("dlq list takes no arguments but --all")
				}
				return deadletter.List(ctx, k, contract.Name, len(args) == 1, stdout)
			}),
		deadLetters("dlq show", "TOPIC OFFSET: show one with its headers and payload, which is personal data", contract, cfg,
			func(ctx context.Context, k *bus.Kafka, args []string) error {
				if len(args) != 2 {
					return errors.New("say which: dlq show TOPIC OFFSET")
				}
				offset, err := strconv.ParseInt(args[1], 10, 64)
				if err != nil {
					return fmt.Errorf("%q is not an offset", args[1])
				}
				return deadletter.Show(ctx, k, args[0], offset, stdout)
			}),
		deadLetters("dlq requeue", "TOPIC: give all of them to this service again, which ignores what it has handled", contract, cfg,
			func(ctx context.Context, k *bus.Kafka, args []string) error {
				if len(args) != 1 || !strings.HasSuffix(args[0], "."+contract.Name+".dlq") {
					return fmt.Errorf("say which: dlq requeue TOPIC, which ends with .%s.dlq", contract.Name)
				}
				return deadletter.Requeue(ctx, k, args[0], -1, stdout)
			}),
	}
}

// deadLetters is a command that needs only Kafka, with the rights of the service.
func deadLetters(name, help string, contract Contract, cfg Settings, do func(context.Context, *bus.Kafka, []string) error) run.Command {
	return run.Command{Name: name, Help: help, Run: func(ctx context.Context, _ telemetry.Set, args []string) error {
		kafka, err := bus.Connect(cfg.Shared().Kafka, contract.Name, contract.Topics)
		if err != nil {
			return err
		}
		defer kafka.Close()
		return do(ctx, kafka, args)
	}}
}
