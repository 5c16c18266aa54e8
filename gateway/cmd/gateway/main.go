// Command gateway is the front door of Convoflow as a process of its own.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/convoflow/convoflow/gateway"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// gcPercent lets the heap, of which little lives, grow to five times that before it is collected: a tenth fewer CPU-µs per
// request for some MiB. GOGC in the environment decides otherwise.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	run.Main("gateway", gateway.Defaults(), func(ctx context.Context, cfg gateway.Config, tel telemetry.Set) error {
		app, err := gateway.New(ctx, cfg, tel)
		if err != nil {
			return err
		}
		return app.Run(ctx)
	})
}
