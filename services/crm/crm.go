// Package crm is the service that owns clients, leads and follow-ups, and the book of erasures. It stores its own copies of calls and
// agents, made from their events.
package crm

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/api/contract"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/peer"
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
	name        = "crm"
	remindEvery = 2 * time.Second // followup.due is published at most this long after its time
)

const (
	importWorkers = 1
	importTimeout = time.Hour // of one attempt; the next one continues
	reclaimEvery  = 5 * time.Second
	sweepEvery    = time.Hour
)

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

	timelines, links, book := store.Timeline(base.DB), store.NewLinks(base.DB), store.Erasures(base.DB, base.Outbox)
	clients := &client.Service{
		Clients: store.Clients(base.DB, base.Outbox), Links: links, Timeline: timelines, Erasures: book, Tx: base.DB,
		NormalizePhone: normalize, Clock: base.Clock,
	}
	settings := &setting.Service{Settings: store.Settings(base.DB), Clock: base.Clock}
	calls := peer.Fetch[followup.Call](peer.New("calls", cfg.CallsURL, tel), "/calls")
	followups := &followup.Service{
		FollowUps: store.FollowUps(base.DB, base.Outbox), Calls: followup.Calls(store.Calls(base.DB), calls), People: links,
		Timeline: timelines, Hours: settings.Hours, Calendars: store.Calendars(base.DB), Clock: base.Clock,
	}
	agents := &agent.Service{Agents: store.Agents(base.DB)}
	erasures := &erasure.Service{Book: book, Erasers: store.Erasers(base.DB, base.Outbox), Clock: base.Clock}

	base.Run("reminders", run.Every(remindEvery, tel, "publish what is due", followups.Remind))
	team := agent.NewTeam(store.Agents(base.DB), peer.Fetch[agent.Agent](peer.New("auth", cfg.Access.AuthURL, tel), "/agents"))
	leads := &lead.Service{
		Leads: store.Leads(base.DB, base.Outbox), Agents: team, Rules: settings, Clients: clients, Timeline: timelines, Erasures: book, InTx: base.DB.InTx,
		Classifier:     classifier(peer.NewSlow("calls' AI", cfg.CallsURL, classifyTimeout, tel)),
		NormalizePhone: normalize, Clock: base.Clock,
	}

	balancer := inbound.NewBalancer(store.Loads{DB: base.DB}, team, base.Clock)
	received := &inbound.Service{
		Leads: leads.Leads, Agents: balancer, Mapping: settings, NormalizePhone: normalize, Secret: cfg.inboundSecret(), Clock: base.Clock,
	}

	rows := store.Imports(base.DB, base.Jobs)
	processor := &leadimport.Processor{
		Imports: rows, Batches: rows, Leads: leads.Leads, Rules: settings, Team: team, Balancer: balancer, Clock: base.Clock, Log: tel.Log,
		Holder: lease.ThisProcess(),
	}
	imports := &leadimport.Service{Imports: rows, Processor: processor, Mapping: received.Mapping, NormalizePhone: normalize, Clock: base.Clock}

	feed.Routes(base.Consumer, followups, agents, erasures)
	feed.LeadRoutes(base.Consumer, leads)
	web.Routes(base.Router, clients, followups, erasures)
	web.LeadRoutes(base.Router, leads, settings)
	web.InboundRoutes(base.Router, received)
	web.ImportRoutes(base.Router, imports, &leadimport.Exporter{Leads: leads})
	base.Jobs.Handle(store.Import, job.Limits{Workers: importWorkers, Timeout: importTimeout}, func(ctx context.Context, a job.Args) error {
		return processor.Process(ctx, a.ID, a.Epoch)
	})
	base.Run("reclaim imports", run.Every(reclaimEvery, tel, "take over expired leases of imports", processor.Reclaim))
	base.Run("sweep imports", run.Every(sweepEvery, tel, "remove old imports", processor.Sweep))
	compared, err := meter.Drift(tel)
	if err != nil {
		return nil, err
	}
	counts := store.NewAnalytics(base.DB)
	keeper := &analytics.Keeper{Rollups: counts, Compared: compared}
	base.Run("analytics fold", run.Every(analytics.FoldPeriod, tel, "fold the counts of analytics", keeper.Fold))
	base.Run("analytics repair", run.Every(time.Hour, tel, "compare the counts of analytics", keeper.Repair))
	web.AnalyticsRoutes(base.Router, &analytics.Service{Store: counts, Zone: settings.Zone, Clock: base.Clock})

	return base.App()
}

// classifyTimeout is for one answer of a language model, and shorter than the timeout of the operation.
const classifyTimeout = 50 * time.Second

// classifier asks calls, which has the AI provider.
func classifier(calls *peer.Client) lead.Classifier {
	return func(ctx context.Context, summary string) (v lead.Verdict, err error) {
		err = calls.Ask(ctx, "/internal/intents", map[string]string{"text": summary}, &v)
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Forbidden) { // another version of calls
			err = fault.Wrap(err, fault.Unavailable, "service_unavailable", "A part of the platform does not answer right now, try again")
		}
		return v, err
	}
}

// Migrate runs the pending migrations and starts nothing: it is the migrate command.
func (c Config) Migrate(ctx context.Context, tel telemetry.Set) error {
	return service.Migrate(ctx, name, c, tel, store.Migrations())
}
