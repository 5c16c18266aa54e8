// Package auth is the service that owns agents, their logins and the keys that access tokens are signed with. It reads no
// topic and calls no other service.
package auth

import (
	"context"
	"net/http"
	"runtime"

	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/key"
	"github.com/convoflow/convoflow/services/auth/internal/password"
	"github.com/convoflow/convoflow/services/auth/internal/store"
	"github.com/convoflow/convoflow/services/auth/internal/web"
)

// App is the running service.
type App struct {
	group *run.Group
	http  *run.Server
	db    *pg.DB
}

// New connects, migrates, opens the signing keys and listens. Nothing is served before Run. A SECRET_KEY that does not open
// the keys in the database is an error.
func New(ctx context.Context, cfg Config, tel telemetry.Set) (app *App, err error) {
	g := run.NewGroup(tel)
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	db, err := pg.Open(ctx, cfg.Database, "auth", tel)
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
	out := outbox.New(db, tel)
	keys, err := key.Load(ctx, store.NewKeys(db), cfg.SecretKey.Reveal(), clock.System{})
	if err != nil {
		return nil, err
	}
	agents := &agent.Service{
		Agents:    store.NewAgents(db, out),
		Sessions:  store.NewSessions(db),
		Passwords: password.NewHasher(runtime.GOMAXPROCS(0)),
		Tokens:    keys,
		Clock:     clock.System{},
		Open:      cfg.Registration == registrationOpen,
		TokenTTL:  cfg.tokenTTL(),
	}
	routes, err := routes(agents, keys, tel)
	if err != nil {
		return nil, err
	}

	app = &App{group: g, db: db}
	if app.http, err = run.HTTP(cfg.HTTP, run.WithHealth(tel, app.Ready, routes)); err != nil {
		return nil, err
	}
	g.Defer("http", app.http.Close)
	admin, err := run.Admin(cfg.Admin, tel, app.Ready)
	if err != nil {
		return nil, err
	}
	g.Defer("admin", admin.Close)

	g.Add("outbox", out.Relay(kafka))
	g.Add("http", app.http)
	g.Add("admin", admin)
	return app, nil
}

func routes(agents *agent.Service, keys *key.Ring, tel telemetry.Set) (http.Handler, error) {
	document, err := api.Document("auth")
	if err != nil {
		return nil, err
	}
	chain, err := rpc.NewChain(tel, pg.Classify)
	if err != nil {
		return nil, err
	}
	router, err := rpc.NewRouter(document, chain, token.NewVerifier(keys.Public, clock.System{}).Authenticate, tel)
	if err != nil {
		return nil, err
	}
	return web.Routes(router, agents, keys)
}

// Run serves until ctx ends, then drains and closes everything.
func (a *App) Run(ctx context.Context) error { return a.group.Run(ctx) }

// Addr is where the API listens, host:port.
func (a *App) Addr() string { return a.http.Addr() }

// Ready says whether requests can be answered now. Kafka is not asked: without it writes go on through the outbox.
func (a *App) Ready(ctx context.Context) error { return a.db.Ping(ctx) }
