// Command crm runs the crm service: clients, leads and follow-ups.
package main

import (
	"context"

	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm"
)

func main() {
	run.Main("crm", crm.Defaults(), func(ctx context.Context, cfg crm.Config, tel telemetry.Set) error {
		app, err := crm.New(ctx, cfg, tel)
		if err != nil {
			return err
		}
		return app.Run(ctx)
	})
}
