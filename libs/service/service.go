// Package service opens the parts that all services have in common, always in the same order: database, Kafka, outbox, inbox,
// idempotency keys, jobs, access, middleware chain, router and ports. The root file of a service then contains only what is
// specific to it. The package refuses to know any service: its API and topics are in its Contract.
package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/inbox"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Contract is what a service must implement, its API and the topics of the platform, and the tables that it has.
type Contract struct {
	Name       string                 // name of the service, its database schema and its consumer group
	OpenAPI    func() ([]byte, error) // returns the OpenAPI document
	Topics     []event.Topic
	Sessions   access.Feed   // topic of ended sessions
	Migrations pg.Migrations // of its own tables; Migrations adds those that all services have
}

// Base is the common parts of a service. Between Open and App, add routes, event handlers, jobs and actors to it.
type Base struct {
	Name     string
	Tel      telemetry.Set
	Clock    clock.Clock // of this process
	DB       *pg.DB
	DBClock  *pg.Clock // the database's
	Outbox   *outbox.Outbox
	Chain    *op.Chain // the middleware of every operation, for those that are none of requests, events and jobs
	Jobs     *job.Queue
	Consumer *bus.Consumer
	Router   *rpc.Router
	// Authenticate returns the caller of a request. A service without Config.Access must set it.
	Authenticate rpc.Authenticator
	// MaxBody is the size of the largest request body in bytes. Open sets it to that of the contract.
	MaxBody int64
	// Wrap may add middleware around the whole API, before routing.
	Wrap func(http.Handler) http.Handler

	cfg       Settings
	kafka     *bus.Kafka
	inbox     *inbox.Inbox
	responses *idempotency.Store
	access    *access.Access // nil without Config.Access
	group     *run.Group
	actors    []actor
	warn      func() []string // may be nil
}

type actor struct {
	name string
	run  run.Actor
}

// Open checks the settings, connects to the database and Kafka, and migrates the tables to the newest version. The service listens after
// App and runs after App.Run. If a step between Open and App fails, the caller must close the Base: defer CloseIf right after Open.
func Open(ctx context.Context, contract Contract, cfg Settings, tel telemetry.Set) (_ *Base, err error) {
	if err := conf.Check(cfg); err != nil {
		return nil, err
	}
	shared := cfg.Shared()
	b, err := OpenDatabase(ctx, contract, cfg, tel)
	if err != nil {
		return nil, err
	}
	defer b.CloseIf(&err)
	b.Wrap = func(h http.Handler) http.Handler { return h }
	if b.kafka, err = bus.Connect(shared.Kafka, contract.Name, contract.Topics); err != nil {
		return nil, err
	}
	b.Defer("kafka", b.kafka.Close)
	b.inbox, b.responses = inbox.New(b.DB), idempotency.New(b.DB)
	if shared.Access != nil {
		b.access = access.New(*shared.Access, contract.Sessions, b.kafka, b.Clock, tel)
		b.Authenticate = b.access.Authenticate
	}
	chain, err := op.NewChain(tel, pg.Classify)
	if err != nil {
		return nil, err
	}
	b.Chain = chain
	b.Jobs = job.New(b.DB, b.DBClock, chain, tel)
	b.Consumer = bus.NewConsumer(b.kafka, contract.Name, b.inbox, chain, b.Clock, tel)
	document, err := contract.OpenAPI()
	if err != nil {
		return nil, err
	}
	authenticate := func(r *http.Request) (identity.Caller, error) { return b.Authenticate(r) }
	if b.Router, err = rpc.NewRouter(document, chain, authenticate, b.responses, tel); err != nil {
		return nil, err
	}
	b.Router.LimitBodies(rpc.NewBudget(shared.HTTP.BodyMemory()))
	b.MaxBody = b.Router.MaxBody()
	return b, nil
}

// OpenDatabase connects only to the database of a service and migrates its tables, for a command that may run while the service
// is running. The Base has only Name, Tel, the clocks, DB and Outbox. The running service publishes the events that the command
// appends to the outbox. The caller must call Close.
func OpenDatabase(ctx context.Context, contract Contract, cfg Settings, tel telemetry.Set) (*Base, error) {
	db, err := pg.Open(ctx, cfg.Shared().Database, contract.Name, tel)
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, Migrations(contract)...); err != nil {
		db.Close()
		return nil, err
	}
	databaseClock, err := pg.NewClock(ctx, db)
	if err != nil {
		db.Close()
		return nil, err
	}
	b := &Base{Name: contract.Name, Tel: tel, Clock: cfg.Shared().Clock, DB: db, DBClock: databaseClock, Outbox: outbox.New(db, tel), cfg: cfg, group: run.NewGroup(tel)}
	b.Defer("database", db.Close)
	return b, nil
}

// Close closes everything, for a Base that does not become an App.
func (b *Base) Close() { b.group.Close() }

// CloseIf closes everything if *err is not nil. Defer it right after Open.
func (b *Base) CloseIf(err *error) {
	if *err != nil {
		b.Close()
	}
}

// Defer adds a function to call after everything has stopped. The last one added is called first.
func (b *Base) Defer(name string, close func()) { b.group.Defer(name, close) }

// Run adds an actor. It is started after the common actors and before the API is served.
func (b *Base) Run(name string, a run.Actor) { b.actors = append(b.actors, actor{name, a}) }

// Ready fails while the service cannot serve requests. It does not check Kafka, because the outbox accepts writes without it.
func (b *Base) Ready(ctx context.Context) error {
	if err := b.DB.Ping(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if b.access == nil {
		return nil
	}
	return b.access.Ready(ctx)
}

// Warn sets what /ready shows beside the readiness: things that an operator should do.
func (b *Base) Warn(warnings func() []string) { b.warn = warnings }

// Warnings returns what /ready shows now.
func (b *Base) Warnings() []string {
	if b.warn == nil {
		return nil
	}
	return b.warn()
}

// health is Ready with the warnings.
func (b *Base) health(ctx context.Context) error {
	if err := b.Ready(ctx); err != nil {
		return err
	}
	if warnings := b.Warnings(); len(warnings) > 0 {
		return run.Warnings(warnings)
	}
	return nil
}

// App completes the service, which listens from now on. It fails if the routes differ from the contract, and the error lists the
// differences.
func (b *Base) App() (*App, error) {
	if b.Authenticate == nil {
		return nil, errors.New("the service has neither Config.Access nor an authenticator")
	}
	routes, err := b.Router.Handler()
	if err != nil {
		return nil, err
	}
	shared := b.cfg.Shared()
	listener, err := shared.HTTP.Listen()
	if err != nil {
		return nil, err
	}
	// A client that sends its whole body before it reads must see an early refusal, also when its body is somewhat too large.
	listener, handler := run.DefaultLinger(2*b.MaxBody).Wrap(listener, run.WithHealth(b.Tel, b.health, b.Wrap(routes)))
	api := shared.HTTP
	api.Listener = listener
	server, err := run.HTTP(api, handler)
	if err != nil {
		return nil, err
	}
	b.Defer("http", server.Close)
	admin, err := run.Admin(shared.Admin, b.Tel, b.health, b.cfg)
	if err != nil {
		return nil, err
	}
	b.Defer("admin", admin.Close)
	monitor, err := newMonitor(b)
	if err != nil {
		return nil, err
	}

	// Actors are started in this order and stopped in reverse: requests are drained first, and metrics are served to the end.
	g := b.group
	g.Add("admin", admin)
	if b.access != nil {
		b.access.Join(g)
	}
	g.Add("database clock", run.Every(pg.ClockEvery, b.Tel, "read the database's clock", b.DBClock.Refresh))
	g.Add("monitor", monitor)
	g.Add("outbox", b.Outbox.Relay(b.kafka))
	g.Add("inbox sweep", b.inbox.Sweep(b.Tel))
	g.Add("idempotency sweep", b.responses.Sweep(b.Tel))
	if !b.Consumer.Empty() {
		g.Add("feed", b.Consumer)
	}
	if !b.Jobs.Empty() {
		g.Add("jobs", b.Jobs)
	}
	for _, a := range b.actors {
		g.Add(a.name, a.run)
	}
	g.Add("http", server)
	return run.NewApp(g, server, b.Ready), nil
}

// App is a service that is listening and can be run.
type App = run.App
