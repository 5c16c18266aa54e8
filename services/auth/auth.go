// Package auth is the service that owns agents, their logins and the keys that access tokens are signed with. It reads no
// topic and calls no other service.
package auth

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"net/http"
	"runtime"
	"time"

	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/op"
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

const (
	// failedLogin is longer than a bcrypt hash of the former system takes (cost 12: 0.2 s), so that a wrong password for such
	// an account takes as long as one for nobody.
	failedLogin  = 400 * time.Millisecond
	admitTimeout = 10 * time.Second // for the look at a session before each request; a lock that nobody gives back ends it sooner
	sweepEvery   = 10 * time.Minute
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
	db, err := open(ctx, cfg, tel)
	if err != nil {
		return nil, err
	}
	g.Defer("database", db.Close)
	kafka, err := bus.Connect(cfg.Kafka)
	if err != nil {
		return nil, err
	}
	g.Defer("kafka", kafka.Close)
	out := outbox.New(db, tel)
	keys, err := key.Load(ctx, store.NewKeys(db), cfg.keys(), clock.System{})
	if err != nil {
		return nil, err
	}
	agents, err := newAgents(cfg, db, out, keys)
	if err != nil {
		return nil, err
	}
	keeper := idempotency.New(db)
	routes, err := routes(agents, keys, keeper, tel)
	if err != nil {
		return nil, err
	}

	app = &App{group: g, db: db}
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
	g.Add("keys", run.Every(key.RefreshEvery, tel, "look at the signing keys", keys.Refresh))
	g.Add("sweep", run.Every(sweepEvery, tel, "forget old sessions and failed logins", func(ctx context.Context) error {
		return store.Sweep(ctx, db, clock.System{}.Now(), cfg.tokenTTL())
	}))
	g.Add("idempotency", keeper.Sweep(tel))
	g.Add("http", app.http)
	g.Add("admin", admin)
	return app, nil
}

func newAgents(cfg Config, db *pg.DB, out *outbox.Outbox, tokens agent.Tokens) (*agent.Service, error) {
	attemptSecret, err := hkdf.Key(sha256.New, []byte(cfg.SecretKey.Reveal()), nil, "convoflow auth failed logins v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of failed logins: %w", err)
	}
	return &agent.Service{
		Agents:        store.NewAgents(db, out),
		Sessions:      store.NewSessions(db, out),
		Attempts:      store.NewAttempts(db),
		Passwords:     password.NewHasher(runtime.GOMAXPROCS(0)),
		Tokens:        tokens,
		Tx:            db,
		Clock:         clock.System{},
		Open:          cfg.Registration == registrationOpen,
		TokenTTL:      cfg.tokenTTL(),
		AttemptSecret: attemptSecret,
		FailedLogin:   failedLogin,
	}, nil
}

func routes(agents *agent.Service, keys *key.Ring, keeper rpc.Keeper, tel telemetry.Set) (http.Handler, error) {
	document, err := api.Document("auth")
	if err != nil {
		return nil, err
	}
	chain, err := op.NewChain(tel, pg.Classify)
	if err != nil {
		return nil, err
	}
	verifier := token.NewVerifier(keys.Public, clock.System{})
	// Here a session that has ended is refused at once, for every operation and before its body is read.
	admit := func(r *http.Request) (identity.Caller, error) {
		caller, err := verifier.Authenticate(r)
		if err != nil {
			return caller, err
		}
		ctx, cancel := context.WithTimeout(r.Context(), admitTimeout)
		defer cancel()
		caller, err = agents.Admit(ctx, caller)
		return caller, pg.Classify(err)
	}
	router, err := rpc.NewRouter(document, chain, admit, tel)
	if err != nil {
		return nil, err
	}
	return web.Routes(router, keeper, agents, keys)
}

// Run serves until ctx ends, then drains and closes everything.
func (a *App) Run(ctx context.Context) error { return a.group.Run(ctx) }

// Addr is where the API listens, host:port.
func (a *App) Addr() string { return a.http.Addr() }

// Ready says whether requests can be answered now. Kafka is not asked: without it writes go on through the outbox.
func (a *App) Ready(ctx context.Context) error { return a.db.Ping(ctx) }
