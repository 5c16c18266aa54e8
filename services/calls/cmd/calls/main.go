// Command calls runs the calls service.
package main

import (
	"context"

	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls"
)

func main() {
	run.Main("calls", calls.Defaults(), func(ctx context.Context, cfg calls.Config, tel telemetry.Set) error {
		app, err := calls.New(ctx, cfg, tel)
		if err != nil {
			return err
		}
		return app.Run(ctx)
	})
}
