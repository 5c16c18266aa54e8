package auth

import (
	"context"

	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth/internal/store"
)

// Migrate brings the service's tables to the newest version and starts nothing: the migrate command.
func (c Config) Migrate(ctx context.Context, tel telemetry.Set) error {
	db, err := pg.Open(ctx, c.Database, "auth", tel)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Migrate(ctx, migrations()...)
}

func migrations() []pg.Migrations {
	return []pg.Migrations{outbox.Migrations(), store.Migrations()}
}
