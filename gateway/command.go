package gateway

import (
	"context"
	"net/http"
	"os"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/doctor"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Commands are the subcommands of the binary.
func (c Config) Commands() []run.Command {
	return []run.Command{{
		Name: "doctor", Help: "check the settings and every dependency, and say what is wrong and what to do; exit 1 if something does not work",
		Run: func(ctx context.Context, _ telemetry.Set, _ []string) error {
			r := &doctor.Report{Clock: clock.System{}}
			c.Examine(ctx, r)
			return r.Write(os.Stdout)
		},
	}}
}

// Examine checks what the gateway depends on: Kafka and the services.
func (c Config) Examine(ctx context.Context, r *doctor.Report) {
	r.OK("settings", "gateway %s, valid; `gateway config` prints them", run.Version())
	r.CheckKafka(ctx, "gateway", events.Topics(), c.Kafka)
	for _, upstream := range []struct{ name, address string }{{"auth", c.Access.AuthURL}, {"calls", c.CallsURL}, {"crm", c.CRMURL}, {"notify", c.NotifyURL}} {
		r.CheckHTTP(ctx, upstream.name, upstream.address+"/ready", http.StatusOK)
	}
}
