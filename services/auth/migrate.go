package auth

import (
	"context"

	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth/internal/store"
)

// Migrate brings the service's tables to the newest version and starts nothing: the migrate command.
func (c Config) Migrate(ctx context.Context, tel telemetry.Set) error {
	db, err := open(ctx, c, tel)
	if err != nil {
		return err
	}
	db.Close()
	return nil
}

// open connects to the database and brings its tables to the newest version.
func open(ctx context.Context, cfg Config, tel telemetry.Set) (*pg.DB, error) {
	db, err := pg.Open(ctx, cfg.Database, "auth", tel)
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, migrations()...); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

func migrations() []pg.Migrations {
	return []pg.Migrations{outbox.Migrations(), idempotency.Migrations(), store.Migrations()}
}
