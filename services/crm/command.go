package crm

import (
	"os"

	"github.com/convoflow/convoflow/api/contract"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/services/crm/internal/store"
)

// Commands are the subcommands of the binary.
func (c Config) Commands() []run.Command {
	return service.Commands(contract.Of(name), c, nil, os.Stdout, store.Migrations())
}

// Migrations returns the migrations of the service's tables, for commands of the platform.
func Migrations() pg.Migrations { return store.Migrations() }
