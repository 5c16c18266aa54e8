// Command auth runs the auth service: agents, logins and the keys that tokens are signed with.
package main

import (
	"context"

	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth"
)

func main() {
	run.Main("auth", auth.Defaults(), func(ctx context.Context, cfg auth.Config, tel telemetry.Set) error {
		app, err := auth.New(ctx, cfg, tel)
		if err != nil {
			return err
		}
		return app.Run(ctx)
	})
}
