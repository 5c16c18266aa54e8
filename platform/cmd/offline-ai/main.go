// Command offline-ai is the offline AI of the platform as a server of its own, for Docker Compose: OpenAI-compatible, without a key and
// a network, of demo quality.
package main

import (
	"context"

	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/platform"
)

func main() { run.Main("offline-ai", platform.OfflineDefaults(), serve) }

func serve(ctx context.Context, cfg platform.OfflineConfig, tel telemetry.Set) error {
	app, err := platform.NewOffline(cfg, tel)
	if err != nil {
		return err
	}
	return app.Run(ctx)
}
