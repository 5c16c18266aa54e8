package notify

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/convoflow/convoflow/api/contract"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/store"
)

// Commands are the subcommands of the binary.
func (c Config) Commands() []run.Command {
	return append(service.Commands(contract.Of(name), c, nil, os.Stdout, store.Migrations()), run.Command{
		Name: "reseal", Help: "seal the URLs and secrets of endpoints again that SECRET_KEY_PREVIOUS opens, with SECRET_KEY",
		Run: func(ctx context.Context, tel telemetry.Set, _ []string) error { return Reseal(ctx, c, tel, os.Stdout) },
	})
}

// Reseal seals the URLs and secrets of all endpoints again with SECRET_KEY, so that SECRET_KEY_PREVIOUS can be dropped. Running
// replicas that know both secrets do not notice.
func Reseal(ctx context.Context, cfg Config, tel telemetry.Set, stdout io.Writer) error {
	base, err := service.OpenDatabase(ctx, name, cfg, tel, store.Migrations())
	if err != nil {
		return err
	}
	defer base.Close()
	box, err := cfg.box()
	if err != nil {
		return err
	}
	resealed, all, err := store.Endpoints(base.DB, box).Reseal(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%d of %d endpoints were sealed again\n", resealed, all)
	return err
}

// Migrations returns the migrations of the service's tables, for commands of the platform.
func Migrations() pg.Migrations { return store.Migrations() }
