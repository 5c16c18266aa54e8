package notify

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/store"
)

// Commands are the subcommands of the binary.
func (c Config) Commands() []run.Command {
	return append(service.Commands(Contract(), c, nil, os.Stdout), run.Command{
		Name: "reseal", Help: "seal the URLs and secrets of endpoints again that SECRET_KEY_PREVIOUS opens, with SECRET_KEY",
		Run: func(ctx context.Context, tel telemetry.Set, _ []string) error { return Reseal(ctx, c, tel, os.Stdout) },
	})
}

// Reseal seals the URLs and secrets of all endpoints again with SECRET_KEY, so that SECRET_KEY_PREVIOUS can be dropped. Running
// replicas that know both secrets do not notice.
func Reseal(ctx context.Context, cfg Config, tel telemetry.Set, stdout io.Writer) error {
	base, err := service.OpenDatabase(ctx, Contract(), cfg, tel)
	if err != nil {
		return err
	}
	defer base.Close()
	box, err := cfg.box()
	if err != nil {
		return err
	}
	resealed, all, err := store.Endpoints(base.DB, base.Outbox, box).Reseal(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%d of %d endpoints were sealed again\n", resealed, all)
	return err
}
