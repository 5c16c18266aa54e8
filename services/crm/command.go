package crm

import (
	"os"

	"github.com/convoflow/convoflow/api/contract"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/services/crm/internal/store"
)

// Commands are the subcommands of the binary.
func (c Config) Commands() []run.Command {
	return service.Commands(contract.Of(name), c, nil, os.Stdout, store.Migrations())
}
