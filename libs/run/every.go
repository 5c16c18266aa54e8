package run

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/telemetry"
)

// Every returns an actor that runs do immediately and then once per period. A failure is logged under the task's name, and do
// runs again after the period. It must be safe to repeat, and safe to run on several replicas at the same time.
func Every(period time.Duration, tel telemetry.Set, task string, do func(ctx context.Context) error) Actor {
	return Func(func(ctx context.Context) error {
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for {
			if err := do(ctx); err != nil && ctx.Err() == nil {
				tel.Log.WarnContext(ctx, "a periodic task failed, retrying after its period", "chore", task, "error", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
	})
}
