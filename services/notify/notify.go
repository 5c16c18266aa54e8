// Package notify is the service that tells the outside world: it owns webhook endpoints and deliveries. It keeps its own
// copies of agents and clients, built from their events.
package notify

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/inbox"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
	"github.com/convoflow/convoflow/services/notify/internal/feed"
	"github.com/convoflow/convoflow/services/notify/internal/meter"
	"github.com/convoflow/convoflow/services/notify/internal/pabbly"
	"github.com/convoflow/convoflow/services/notify/internal/seal"
	"github.com/convoflow/convoflow/services/notify/internal/store"
	"github.com/convoflow/convoflow/services/notify/internal/web"
)

const (
	rescueEvery = 5 * time.Second
	jobTimeout  = 2 * pabbly.Timeout // the request and everything around it
)

// App is the running service.
type App struct {
	group  *run.Group
	http   *run.Server
	db     *pg.DB
	access *access.Access
}

// New connects, migrates and listens. Nothing is served or sent before Run.
func New(ctx context.Context, cfg Config, tel telemetry.Set) (app *App, err error) {
	g := run.NewGroup(tel)
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	allowed, err := cfg.allowed()
	if err != nil {
		return nil, err
	}
	box, err := seal.New(cfg.SecretKey.Reveal())
	if err != nil {
		return nil, err
	}
	db, err := pg.Open(ctx, cfg.Database, "notify", tel)
	if err != nil {
		return nil, err
	}
	g.Defer("database", db.Close)
	if err := db.Migrate(ctx, migrations()...); err != nil {
		return nil, err
	}
	kafka, err := bus.Connect(cfg.Kafka)
	if err != nil {
		return nil, err
	}
	g.Defer("kafka", kafka.Close)
	chain, err := op.NewChain(tel, pg.Classify)
	if err != nil {
		return nil, err
	}
	jobs, err := job.New(db, chain, tel)
	if err != nil {
		return nil, err
	}
	numbers, err := meter.New(tel)
	if err != nil {
		return nil, err
	}

	out, seen := outbox.New(db, tel), inbox.New(db)
	callers := access.New(cfg.Access, kafka, tel)
	sender := pabbly.New(pabbly.Options{AllowPrivate: allowed, Timeout: pabbly.Timeout, Clock: clock.System{}}, tel)
	g.Defer("sender", sender.Close)
	endpointRows, deliveryRows := store.NewEndpoints(db, box), store.NewDeliveries(db, out, jobs, tel)
	deliveries := delivery.NewService(delivery.Parts{
		Deliveries: deliveryRows, Endpoints: endpointRows, Agents: store.NewAgents(db), Clients: store.NewClients(db),
		Sender: sender, Watcher: numbers, Clock: clock.System{}, Wobble: rand.Float64, PublicURL: cfg.PublicURL, Workers: cfg.Workers,
	})
	enabled, err := endpoint.NewService(endpointRows, deliveries, clock.System{}).Seed(ctx, cfg.WebhookURL.Reveal(), cfg.WebhookSecret.Reveal())
	if err != nil {
		return nil, err
	}
	if enabled == 0 {
		tel.Log.WarnContext(ctx, "no webhook endpoint is enabled, so events are not sent anywhere: set PABBLY_WEBHOOK_URL and PABBLY_WEBHOOK_SECRET")
	}

	document, err := api.Document("notify")
	if err != nil {
		return nil, err
	}
	router, err := rpc.NewRouter(document, chain, callers.Authenticate, tel)
	if err != nil {
		return nil, err
	}
	routes, err := web.Routes(router, deliveries)
	if err != nil {
		return nil, err
	}
	consumer := bus.NewConsumer(kafka, "notify", seen, chain, tel)
	feed.Routes(consumer, deliveries)

	app = &App{group: g, db: db, access: callers}
	if app.http, err = run.HTTP(cfg.HTTP, run.WithHealth(tel, app.Ready, routes)); err != nil {
		return nil, err
	}
	g.Defer("http", app.http.Close)
	admin, err := run.Admin(cfg.Admin, tel, app.Ready, cfg)
	if err != nil {
		return nil, err
	}
	g.Defer("admin", admin.Close)

	g.Add("outbox", out.Relay(kafka))
	g.Add("inbox sweep", seen.Sweep(tel))
	callers.Join(g)
	g.Add("rescue", run.Every(rescueEvery, tel, "send again what a crash interrupted", deliveries.Rescue))
	g.Add("backlog", numbers.Backlog(deliveryRows.ListBacklog))
	g.Add("jobs", jobs.Work("notify.attempt", job.Limits{Workers: cfg.Workers, Timeout: jobTimeout}, func(ctx context.Context, a job.Args) error {
		return deliveries.Attempt(ctx, a.ID, a.Epoch)
	}))
	g.Add("feed", consumer)
	g.Add("http", app.http)
	g.Add("admin", admin)
	return app, nil
}

// Run serves and sends until ctx ends, then drains and closes everything.
func (a *App) Run(ctx context.Context) error { return a.group.Run(ctx) }

// Addr is where the API listens, host:port.
func (a *App) Addr() string { return a.http.Addr() }

// Ready says whether requests can be answered now. Kafka is not asked: without it webhooks go on from the database.
func (a *App) Ready(ctx context.Context) error {
	return errors.Join(a.db.Ping(ctx), a.access.Ready(ctx))
}
