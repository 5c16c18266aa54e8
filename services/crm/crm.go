// Package crm is the service that owns clients, leads and follow-ups, and the record of erasures. It stores its own copies of calls and
// agents, made from their events.
package crm

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/api/contract"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/phone"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
	"github.com/convoflow/convoflow/services/crm/internal/client"
	"github.com/convoflow/convoflow/services/crm/internal/erasure"
	"github.com/convoflow/convoflow/services/crm/internal/feed"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/inbound"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/leadimport"
	"github.com/convoflow/convoflow/services/crm/internal/meter"
	"github.com/convoflow/convoflow/services/crm/internal/setting"
	"github.com/convoflow/convoflow/services/crm/internal/store"
	"github.com/convoflow/convoflow/services/crm/internal/web"
)

const (
	remindEvery   = 2 * time.Second // followup.due is published at most this long after its time
	importWorkers = 1
	importTimeout = time.Hour // of one attempt; the next one continues
	reclaimEvery  = 5 * time.Second
	sweepEvery    = time.Hour
	repairEvery   = time.Hour
)

// Contract returns the API, the topics and the tables of the service.
func Contract() service.Contract { return contract.Of("crm", store.Migrations()) }

// New connects to the database, migrates it and listens. Nothing is served before Run.
func New(ctx context.Context, cfg Config, tel telemetry.Set) (_ *service.App, err error) {
	base, err := service.Open(ctx, Contract(), cfg, tel)
	if err != nil {
		return nil, err
	}
	defer base.CloseIf(&err)
	normalize, err := phone.For(cfg.DefaultCountry)
	if err != nil {
		return nil, err
	}
	drift, err := meter.Drift(tel)
	if err != nil {
		return nil, err
	}

	copied, timelines, links, erasureStore := store.Agents(base.DB), store.Timeline(base.DB), store.NewLinks(base.DB), store.Erasures(base.DB, base.Outbox)
	agents, team := &agent.Service{Agents: copied}, agent.NewTeam(copied, cfg.fetchAgent(tel))
	erasures := &erasure.Service{Erasures: erasureStore, Waits: store.ErasureWaits(base.DB), Erasers: store.Erasers(base.DB, base.Outbox), Clock: base.Clock}
	settings := &setting.Service{Settings: store.Settings(base.DB), HomeZone: phone.Zone(cfg.DefaultCountry), Clock: base.Clock}
	clients := &client.Service{
		Clients: store.Clients(base.DB, base.Outbox), Links: links, Timeline: timelines, Erasures: erasureStore, Tx: base.DB,
		NormalizePhone: normalize, Clock: base.Clock,
	}
	followups := &followup.Service{
		FollowUps: store.FollowUps(base.DB, base.Outbox), Calls: followup.Calls(store.Calls(base.DB), cfg.fetchCall(tel)), People: links,
		Timeline: timelines, Hours: settings.Hours, Calendars: store.Calendars(base.DB), Clock: base.Clock,
	}
	leads := &lead.Service{
		Leads: store.Leads(base.DB, base.Outbox), Agents: team, Rules: settings, Clients: clients, Timeline: timelines, Erasures: erasureStore,
		InTx: base.DB.InTx, Classifier: cfg.classifier(tel), NormalizePhone: normalize, Clock: base.Clock,
	}
	balancer := inbound.NewBalancer(store.Loads{DB: base.DB}, team, base.Clock)
	received := &inbound.Service{
		Leads: leads.Leads, Agents: balancer, Mapping: settings, NormalizePhone: normalize, Secret: cfg.inboundSecret(), Clock: base.Clock,
	}
	rows := store.Imports(base.DB, base.Jobs)
	processor := &leadimport.Processor{
		Imports: rows, Batches: rows, Leads: leads.Leads, Rules: settings, Team: team, Erasures: erasureStore, Balancer: balancer, Clock: base.Clock,
		Log: tel.Log, Holder: lease.ThisProcess(),
	}
	imports := &leadimport.Service{Imports: rows, Processor: processor, Mapping: settings, NormalizePhone: normalize, Clock: base.Clock}
	counts := store.NewAnalytics(base.DB)
	aggregator := &analytics.Aggregator{Rollups: counts, Compared: drift}

	feed.Routes(base.Consumer, followups, leads, agents, erasures)
	web.Routes(base.Router, web.Services{
		Clients: clients, FollowUps: followups, Leads: leads, Inbound: received, Imports: imports, Exports: &leadimport.Exporter{Leads: leads},
		Settings: settings, Analytics: &analytics.Service{Store: counts, Zone: settings.Zone, Clock: base.Clock}, Erasures: erasures,
	})
	base.Jobs.Handle(store.Import, job.Limits{Workers: importWorkers, Timeout: importTimeout}, func(ctx context.Context, a job.Args) error {
		return processor.Process(ctx, a.ID, a.Epoch)
	})
	base.Run("reminders", run.Every(remindEvery, tel, "publish what is due", followups.Remind))
	base.Run("reclaim imports", run.Every(reclaimEvery, tel, "take over expired leases of imports", processor.Reclaim))
	base.Run("sweep imports", run.Every(sweepEvery, tel, "remove old imports", processor.Sweep))
	base.Run("analytics fold", run.Every(analytics.FoldEvery, tel, "fold the counts of analytics", aggregator.Fold))
	base.Run("analytics repair", run.Every(repairEvery, tel, "compare the counts of analytics", aggregator.Repair))
	return base.App()
}
