package calls

import (
	"context"

	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/inbox"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/store"
)

// Migrate brings the service's tables to the newest version and starts nothing: the migrate command.
func (c Config) Migrate(ctx context.Context, tel telemetry.Set) error {
	db, err := pg.Open(ctx, c.Database, "calls", tel)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Migrate(ctx, migrations()...)
}

func migrations() []pg.Migrations {
	return []pg.Migrations{outbox.Migrations(), inbox.Migrations(), idempotency.Migrations(), job.Migrations(), store.Migrations()}
}
