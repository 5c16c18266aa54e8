// Package notify is the service that sends webhooks: it owns webhook endpoints and deliveries. It stores its own copies of
// agents and clients, made from their events.
package notify

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/api/contract"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/op"
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
	discardEvery = 5 * time.Second
	upkeepEvery  = time.Hour
)

// Contract returns the API, the topics and the tables of the service.
func Contract() service.Contract { return contract.Of("notify", store.Migrations()) }

// New connects to the database, migrates it and listens. Nothing is served or sent before Run.
func New(ctx context.Context, cfg Config, tel telemetry.Set) (_ *service.App, err error) {
	base, err := service.Open(ctx, Contract(), cfg, tel)
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
	endpoints, rows := store.Endpoints(base.DB, base.Outbox, box), store.Deliveries(base.DB, base.Outbox, tel)
	partitions := store.NewPartitions(base.DB, cfg.retention())
	if err := partitions.Upkeep(ctx); err != nil {
		return nil, err
	}
	renderer := delivery.Renderer{
		Agents: store.Agents(base.DB), Clients: store.Clients(base.DB), Leads: store.Leads(base.DB), Clock: base.Clock, PublicURL: cfg.PublicURL,
	}
	dispatcher := &delivery.Dispatcher{
		Queue: rows, Endpoints: endpoints, Renderer: &renderer, Sender: sender, Observer: metrics, Log: tel.Log, InTx: base.DB.InTx,
		Attempt: attempts(base.Chain, tel, base.Clock.Now), Jitter: rand.Float64, Holder: lease.ThisProcess(), Workers: cfg.Workers,
	}
	deliveries := &delivery.Service{
		Deliveries: rows, Endpoints: endpoints, Erasures: store.Erasures(base.DB, base.Outbox), Archive: store.Archive(base.DB), Renderer: renderer, Sender: sender,
		Wake: func(ctx context.Context) { base.DB.AfterCommit(ctx, dispatcher.Wake) },
	}
	dispatcher.Disabled = deliveries.EndpointDisabled
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
	base.Run("discard", run.Every(discardEvery, tel, "end the deliveries of deleted endpoints", deliveries.Discard))
	base.Run("upkeep", run.Every(upkeepEvery, tel, "add and drop partitions of deliveries", func(ctx context.Context) error {
		return errors.Join(partitions.Upkeep(ctx), partitions.Forget(ctx))
	}))
	base.Run("backlog", metrics.Backlog(rows.ListBacklog))
	base.Run("endpoints", metrics.Endpoints(endpoints.List))
	base.Run("reconciliation", metrics.Reconciliation(rows.ListMissing))
	base.Run("dispatcher", dispatcher)
	return base.App()
}

// attempts returns what runs an attempt as an operation in the trace of its delivery. The time that a delivery has waited for its first
// request is a span too.
func attempts(chain *op.Chain, tel telemetry.Set, now func() time.Time) func(context.Context, delivery.Delivery, func(context.Context) (bool, error)) error {
	wrap := chain.Wrap("notify.attempt", trace.SpanKindConsumer)
	return func(ctx context.Context, x delivery.Delivery, do func(context.Context) (bool, error)) error {
		ctx = tel.Extract(ctx, x.Trace)
		begun := now()
		_, err := wrap(func(attempt context.Context, _ any) (any, error) {
			sent, err := do(attempt)
			if sent && x.Failures == 0 && telemetry.TraceID(ctx) != "" {
				_, span := tel.Tracer().Start(ctx, "queue notify.attempt", trace.WithTimestamp(x.CreatedAt))
				span.End(trace.WithTimestamp(begun))
			}
			return nil, err
		})(ctx, nil)
		return err
	}
}

// box seals the URLs and secrets of endpoints.
func (c Config) box() (*seal.Box, error) {
	return seal.New(c.SecretKey.Reveal(), c.PreviousKey.Reveal(), "convoflow notify endpoints v1")
}
