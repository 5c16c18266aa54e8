package crm

import (
	"os"

	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
)

// Commands are the subcommands of the binary.
func (c Config) Commands() []run.Command {
	return service.Commands(Contract(), c, nil, os.Stdout)
}
