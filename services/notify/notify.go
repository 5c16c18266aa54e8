// Package notify is the service that sends webhooks: it owns webhook endpoints and deliveries. It stores its own copies of
// agents and clients, made from their events.
package notify

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/convoflow/convoflow/api/contract"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/seal"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
	"github.com/convoflow/convoflow/services/notify/internal/feed"
	"github.com/convoflow/convoflow/services/notify/internal/meter"
	"github.com/convoflow/convoflow/services/notify/internal/pabbly"
	"github.com/convoflow/convoflow/services/notify/internal/store"
	"github.com/convoflow/convoflow/services/notify/internal/web"
)

const (
	name           = "notify"
	rescueInterval = 5 * time.Second
	jobTimeout     = 2 * pabbly.Timeout // the request and all database work
)

// New connects to the database, migrates it and listens. Nothing is served or sent before Run.
func New(ctx context.Context, cfg Config, tel telemetry.Set) (_ *service.App, err error) {
	base, err := service.Open(ctx, contract.Of(name), cfg, tel, store.Migrations())
	if err != nil {
		return nil, err
	}
	defer base.CloseIf(&err)
	allowed, err := cfg.allowed()
	if err != nil {
		return nil, err
	}
	box, err := cfg.box()
	if err != nil {
		return nil, err
	}
	metrics, err := meter.New(tel)
	if err != nil {
		return nil, err
	}

	sender := pabbly.New(pabbly.Options{AllowPrivate: allowed, Timeout: pabbly.Timeout, Clock: base.Clock}, tel)
	base.Defer("sender", sender.Close)
	endpoints, rows := store.Endpoints(base.DB, box), store.Deliveries(base.DB, base.Outbox, base.Jobs, tel)
	deliveries := &delivery.Service{
		Deliveries: rows, Jobs: rows, Endpoints: endpoints, Agents: store.Agents(base.DB), Clients: store.Clients(base.DB), Leads: store.Leads(base.DB),
		Erasures: store.Erasures(base.DB, base.Outbox), Archive: store.Archive(base.DB),
		Sender:   sender, Observer: metrics, Clock: base.Clock, Log: tel.Log, Jitter: rand.Float64, Holder: lease.ThisProcess(), PublicURL: cfg.PublicURL,
		Bulkhead: delivery.NewBulkhead(cfg.Workers),
	}
	base.Jobs.Handle(store.Attempt, job.Limits{Workers: cfg.Workers, Timeout: jobTimeout}, func(ctx context.Context, a job.Args) error {
		return deliveries.Attempt(ctx, a.ID, a.Epoch)
	})
	webhooks := &endpoint.Service{Endpoints: endpoints, Deliveries: deliveries, CheckURL: cfg.checkReceiver, Clock: base.Clock}
	enabled, err := webhooks.Seed(ctx, cfg.WebhookURL.Reveal(), cfg.WebhookSecret.Reveal())
	if err != nil {
		return nil, err
	}
	if enabled == 0 {
		tel.Log.WarnContext(ctx, "no webhook endpoint is enabled, so events are not sent anywhere: POST /webhooks, or set PABBLY_WEBHOOK_URL and PABBLY_WEBHOOK_SECRET")
	}

	feed.Routes(base.Consumer, deliveries)
	web.Routes(base.Router, webhooks, deliveries)
	base.Run("rescue", run.Every(rescueInterval, tel, "send again what a crash interrupted", deliveries.Rescue))
	base.Run("backlog", metrics.Backlog(rows.ListBacklog))
	return base.App()
}

// box seals the URLs and secrets of endpoints.
func (c Config) box() (*seal.Box, error) {
	return seal.New(c.SecretKey.Reveal(), c.PreviousKey.Reveal(), "convoflow notify endpoints v1")
}

// Migrate runs the pending migrations and starts nothing: it is the migrate command.
func (c Config) Migrate(ctx context.Context, tel telemetry.Set) error {
	return service.Migrate(ctx, name, c, tel, store.Migrations())
}
