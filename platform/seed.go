package platform

import (
	"context"

	"github.com/convoflow/convoflow/services/crm"
)

// Seed writes made-up data of a sales team into the tables of crm in the platform in o.DataDir, which may be running. For invalid
// settings the error is a *conf.Error.
func Seed(ctx context.Context, o Options, what crm.SeedOptions) error {
	p, s, err := beside(ctx, o, "crm")
	if err != nil {
		return err
	}
	defer p.group.Close()
	return crm.Seed(ctx, s.crm, p.tel, what)
}
