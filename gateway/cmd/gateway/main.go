// Command gateway runs the API gateway of Convoflow as its own process.
package main

import (
	"context"

	"github.com/convoflow/convoflow/gateway"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func main() {
	run.Main("gateway", gateway.Defaults(), func(ctx context.Context, cfg gateway.Config, tel telemetry.Set) error {
		app, err := gateway.New(ctx, cfg, tel)
		if err != nil {
			return err
		}
		return app.Run(ctx)
	})
}
