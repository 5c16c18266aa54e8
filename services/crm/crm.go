// Package crm is the service that owns clients, leads and follow-ups. It stores its own copies of calls and agents, made from their
// events.
package crm

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/api/contract"
	"github.com/convoflow/convoflow/libs/peer"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
	"github.com/convoflow/convoflow/services/crm/internal/client"
	"github.com/convoflow/convoflow/services/crm/internal/feed"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/meter"
	"github.com/convoflow/convoflow/services/crm/internal/phone"
	"github.com/convoflow/convoflow/services/crm/internal/setting"
	"github.com/convoflow/convoflow/services/crm/internal/store"
	"github.com/convoflow/convoflow/services/crm/internal/web"
)

const name = "crm"

// New connects to the database, migrates it and listens. Nothing is served before Run.
func New(ctx context.Context, cfg Config, tel telemetry.Set) (_ *service.App, err error) {
	base, err := service.Open(ctx, contract.Of(name), cfg, tel, store.Migrations())
	if err != nil {
		return nil, err
	}
	defer base.CloseIf(&err)
	normalize, err := phone.For(cfg.DefaultCountry)
	if err != nil {
		return nil, err
	}

	clients := &client.Service{Clients: store.Clients(base.DB, base.Outbox), NormalizePhone: normalize, Clock: base.Clock}
	calls := peer.Fetch[followup.Call](peer.New("calls", cfg.CallsURL, tel), "/calls")
	followups := &followup.Service{
		FollowUps: store.FollowUps(base.DB, base.Outbox), Calls: followup.Calls(store.Calls(base.DB), calls), Clock: base.Clock,
	}
	agents := &agent.Service{Agents: store.Agents(base.DB)}

	team := agent.NewTeam(store.Agents(base.DB), peer.Fetch[agent.Agent](peer.New("auth", cfg.Access.AuthURL, tel), "/agents"))
	settings := &setting.Service{}
	leads := &lead.Service{Leads: store.Leads(base.DB, base.Outbox), Agents: team, Rules: settings, NormalizePhone: normalize, Clock: base.Clock}

	compared, err := meter.Drift(tel)
	if err != nil {
		return nil, err
	}
	counts := store.NewAnalytics(base.DB)
	keeper := &analytics.Keeper{Rollups: counts, Compared: compared}
	base.Run("analytics fold", run.Every(analytics.FoldPeriod, tel, "fold the counts of analytics", keeper.Fold))
	base.Run("analytics repair", run.Every(time.Hour, tel, "compare the counts of analytics", keeper.Repair))
	web.AnalyticsRoutes(base.Router, &analytics.Service{Store: counts, Clock: base.Clock})

	feed.Routes(base.Consumer, followups, agents)
	web.Routes(base.Router, clients, followups)
	web.LeadRoutes(base.Router, leads)
	return base.App()
}

// Migrate runs the pending migrations and starts nothing: it is the migrate command.
func (c Config) Migrate(ctx context.Context, tel telemetry.Set) error {
	return service.Migrate(ctx, name, c, tel, store.Migrations())
}
