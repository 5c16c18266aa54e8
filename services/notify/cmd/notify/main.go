// Command notify runs the notify service: webhooks and their delivery.
package main

import (
	"context"

	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify"
)

func main() {
	run.Main("notify", notify.Defaults(), func(ctx context.Context, cfg notify.Config, tel telemetry.Set) error {
		app, err := notify.New(ctx, cfg, tel)
		if err != nil {
			return err
		}
		return app.Run(ctx)
	})
}
