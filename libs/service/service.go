// Package service opens what all services have in common, in one order, so that the root file of a service holds only what is
// its own: database, Kafka, outbox, inbox, idempotency keys, jobs, who may call, the middleware chain, the router, the ports.
// It knows no service; what a service publishes and answers comes in its Contract.
package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
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

// Contract is what a service has to keep: its API and the topics of the platform.
type Contract struct {
	Name     string                 // of the service, of its database schema and of its consumer group
	OpenAPI  func() ([]byte, error) // its document
	Topics   []event.Topic
	Sessions access.Feed // where ended sessions are published
}

// Base is what every service has. Fill it between Open and App: routes, handlers of events, jobs and actors.
type Base struct {
	Name     string
	Tel      telemetry.Set
	Clock    clock.Clock
	DB       *pg.DB
	Outbox   *outbox.Outbox
	Jobs     *job.Queue
	Consumer *bus.Consumer
	Router   *rpc.Router
	// Authenticate says who sends a request. A service without Config.Access sets it.
	Authenticate rpc.Authenticator
	// Wrap may put middleware around the whole API, before routing.
	Wrap func(http.Handler) http.Handler

	cfg    Settings
	kafka  *bus.Kafka
	inbox  *inbox.Inbox
	keeper *idempotency.Keeper
	access *access.Access // nil without Config.Access
	group  *run.Group
	actors []actor
}

type actor struct {
	name string
	run  run.Actor
}

// lingerBytes is how much of a refused body is discarded: two recordings of the default limit.
const lingerBytes = 200 << 20

// Open connects to what a service needs and brings its tables to the newest version. Nothing listens or runs before App and
// its Run. When something fails between the two, call CloseIf.
func Open(ctx context.Context, contract Contract, cfg Settings, tel telemetry.Set, own ...pg.Migrations) (_ *Base, err error) {
	shared := cfg.Shared()
	b, err := OpenDatabase(ctx, contract.Name, cfg, tel, own...)
	if err != nil {
		return nil, err
	}
	defer b.CloseIf(&err)
	b.Wrap = func(h http.Handler) http.Handler { return h }
	if b.kafka, err = bus.Connect(shared.Kafka, contract.Topics); err != nil {
		return nil, err
	}
	b.Defer("kafka", b.kafka.Close)
	b.inbox, b.keeper = inbox.New(b.DB), idempotency.New(b.DB)
	if shared.Access != nil {
		b.access = access.New(*shared.Access, contract.Sessions, b.kafka, b.Clock, tel)
		b.Authenticate = b.access.Authenticate
	}
	chain, err := op.NewChain(tel, pg.Classify)
	if err != nil {
		return nil, err
	}
	b.Jobs = job.New(b.DB, chain, tel)
	b.Consumer = bus.NewConsumer(b.kafka, contract.Name, b.inbox, chain, tel)
	document, err := contract.OpenAPI()
	if err != nil {
		return nil, err
	}
	authenticate := func(r *http.Request) (identity.Caller, error) { return b.Authenticate(r) }
	if b.Router, err = rpc.NewRouter(document, chain, authenticate, b.keeper, tel); err != nil {
		return nil, err
	}
	return b, nil
}

// OpenDatabase opens only the database of a service and brings its tables to the newest version, for a command that does its
// work beside the running service. The Base has Name, Tel, Clock, DB and Outbox; what the command appends to the outbox is
// published by the running service. Call Close.
func OpenDatabase(ctx context.Context, name string, cfg Settings, tel telemetry.Set, own ...pg.Migrations) (*Base, error) {
	db, err := pg.Open(ctx, cfg.Shared().Database, name, tel)
	if err != nil {
		return nil, err
	}
	shared := []pg.Migrations{outbox.Migrations(), inbox.Migrations(), idempotency.Migrations(), job.Migrations()}
	if err := db.Migrate(ctx, slices.Concat(shared, own)...); err != nil {
		db.Close()
		return nil, err
	}
	b := &Base{Name: name, Tel: tel, Clock: clock.System{}, DB: db, Outbox: outbox.New(db, tel), cfg: cfg, group: run.NewGroup(tel)}
	b.Defer("database", db.Close)
	return b, nil
}

// Close closes everything, for a Base that never becomes an App.
func (b *Base) Close() { b.group.Close() }

// CloseIf closes everything when *err is an error. Defer it right after Open.
func (b *Base) CloseIf(err *error) {
	if *err != nil {
		b.Close()
	}
}

// Defer adds something to close after everything has stopped; the last added closes first.
func (b *Base) Defer(name string, close func()) { b.group.Defer(name, close) }

// Run adds an actor of the service.
func (b *Base) Run(name string, a run.Actor) { b.actors = append(b.actors, actor{name, a}) }

// Ready fails while requests cannot be answered. Kafka is not asked: without it writes go on through the outbox.
func (b *Base) Ready(ctx context.Context) error {
	if err := b.DB.Ping(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if b.access == nil {
		return nil
	}
	return b.access.Ready(ctx)
}

// App makes the service: from now on it listens. The error says where the routes and the contract differ.
func (b *Base) App() (*App, error) {
	if b.Authenticate == nil {
		return nil, errors.New("the service has neither the settings of access nor an authenticator")
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
	// A client that sends its whole body before it reads must see a refusal that came early.
	listener, handler := run.DefaultLinger(lingerBytes).Wrap(listener, run.WithHealth(b.Tel, b.Ready, b.Wrap(routes)))
	server, err := run.HTTP(run.HTTPConfig{Listener: listener, H2C: shared.HTTP.H2C, Prepare: shared.HTTP.Prepare}, handler)
	if err != nil {
		return nil, err
	}
	b.Defer("http", server.Close)
	admin, err := run.Admin(shared.Admin, b.Tel, b.Ready, b.cfg)
	if err != nil {
		return nil, err
	}
	b.Defer("admin", admin.Close)

	// Started in this order, stopped in reverse: requests are drained first, and metrics can be read to the end.
	g := b.group
	g.Add("admin", admin)
	if b.access != nil {
		b.access.Join(g)
	}
	g.Add("outbox", b.Outbox.Relay(b.kafka))
	g.Add("inbox sweep", b.inbox.Sweep(b.Tel))
	g.Add("idempotency sweep", b.keeper.Sweep(b.Tel))
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

// App is a service that listens and is ready to run.
type App = run.App
