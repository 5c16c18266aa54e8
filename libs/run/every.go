package run

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/telemetry"
)

// Every does a chore at once and then again and again, as an actor. A chore that fails is logged under its name and done
// again at the next turn: it must be safe to repeat, and to run on several replicas.
func Every(period time.Duration, tel telemetry.Set, chore string, do func(ctx context.Context) error) Actor {
	return Func(func(ctx context.Context) error {
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for {
			if err := do(ctx); err != nil && ctx.Err() == nil {
				tel.Log.WarnContext(ctx, "a chore failed, it is done again later", "chore", chore, "error", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
	})
}
