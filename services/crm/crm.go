// Package crm is the service that owns clients and follow-ups. It keeps its own copies of calls and agents, built from
// their events.
package crm

import (
	"context"
	"errors"

	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/inbox"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/peer"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/callapi"
	"github.com/convoflow/convoflow/services/crm/internal/client"
	"github.com/convoflow/convoflow/services/crm/internal/feed"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/phone"
	"github.com/convoflow/convoflow/services/crm/internal/store"
	"github.com/convoflow/convoflow/services/crm/internal/web"
)

// App is the running service.
type App struct {
	group  *run.Group
	http   *run.Server
	db     *pg.DB
	access *access.Access
}

// New connects, migrates and listens. Nothing is served before Run.
func New(ctx context.Context, cfg Config, tel telemetry.Set) (app *App, err error) {
	g := run.NewGroup(tel)
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	db, err := pg.Open(ctx, cfg.Database, "crm", tel)
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
	chain, err := rpc.NewChain(tel, pg.Classify)
	if err != nil {
		return nil, err
	}
	normalize, err := phone.For(cfg.DefaultCountry)
	if err != nil {
		return nil, err
	}

	out, seen, keeper := outbox.New(db, tel), inbox.New(db), idempotency.New(db)
	callers := access.New(cfg.Access, kafka, tel)
	asked := callapi.New(peer.New("calls", cfg.CallsURL, tel))
	clients := client.NewService(store.NewClients(db, out), normalize, clock.System{})
	followups := followup.NewService(store.NewFollowUps(db, out), store.NewCalls(db), asked, clock.System{})
	agents := agent.NewService(store.NewAgents(db))

	document, err := api.Document("crm")
	if err != nil {
		return nil, err
	}
	router, err := rpc.NewRouter(document, chain, callers.Authenticate, tel)
	if err != nil {
		return nil, err
	}
	routes, err := web.Routes(router, keeper, clients, followups)
	if err != nil {
		return nil, err
	}
	consumer := bus.NewConsumer(kafka, "crm", seen, chain, tel)
	feed.Routes(consumer, followups, agents)

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
	g.Add("idempotency sweep", keeper.Sweep(tel))
	callers.Join(g)
	g.Add("feed", consumer)
	g.Add("http", app.http)
	g.Add("admin", admin)
	return app, nil
}

// Run serves until ctx ends, then drains and closes everything.
func (a *App) Run(ctx context.Context) error { return a.group.Run(ctx) }

// Addr is where the API listens, host:port.
func (a *App) Addr() string { return a.http.Addr() }

// Ready says whether requests can be answered now. Kafka is not asked: without it writes go on through the outbox.
func (a *App) Ready(ctx context.Context) error {
	return errors.Join(a.db.Ping(ctx), a.access.Ready(ctx))
}
