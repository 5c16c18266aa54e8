// Package calls is the service that keeps recordings and makes transcripts and insights of them. It owns the API under
// /calls and the topic calls.calls.v1.
package calls

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/inbox"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/peer"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/audio"
	"github.com/convoflow/convoflow/services/calls/internal/bucket"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/feed"
	"github.com/convoflow/convoflow/services/calls/internal/speech"
	"github.com/convoflow/convoflow/services/calls/internal/store"
	"github.com/convoflow/convoflow/services/calls/internal/web"
)

const (
	jobTimeout   = 45 * time.Minute // decoding, all parts of a day-long recording and the insights
	reclaimEvery = 5 * time.Second
	sweepEvery   = 10 * time.Minute
)

// App is the service, wired and not yet running.
type App struct {
	group *run.Group
	http  *run.Server
	ready run.Ready
}

// Run runs the service until ctx ends.
func (a *App) Run(ctx context.Context) error { return a.group.Run(ctx) }

// Addr is where the API listens.
func (a *App) Addr() string { return a.http.Addr() }

// Ready fails while the service cannot do its work.
func (a *App) Ready(ctx context.Context) error { return a.ready(ctx) }

// New wires the service: from top to bottom is the order of the start.
func New(ctx context.Context, cfg Config, tel telemetry.Set) (_ *App, err error) {
	g := run.NewGroup(tel)
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	db, err := pg.Open(ctx, cfg.Database, "calls", tel)
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
	recordings, err := bucket.Open(ctx, cfg.StorageURL, cfg.MaxAudioSizeMB<<20, audio.Sniff)
	if err != nil {
		return nil, err
	}
	g.Defer("recordings", recordings.Close)
	studio, err := audio.Open(cfg.TempDir, audio.PartBytes)
	if err != nil {
		return nil, err
	}
	g.Defer("audio", studio.Close)
	chain, err := op.NewChain(tel, pg.Classify)
	if err != nil {
		return nil, err
	}
	queue, err := job.New(db, chain, tel)
	if err != nil {
		return nil, err
	}
	analyst, err := speech.NewAnalyst(cfg.analyst(), clock.System{}, tel)
	if err != nil {
		return nil, err
	}
	events, seen, keeper := outbox.New(db, tel), inbox.New(db), idempotency.New(db)
	callers := access.New(cfg.Access, kafka, tel)
	kept := store.New(db, events, queue, tel)

	svc := &call.Service{
		Store: kept, Recordings: recordings, Clients: store.NewClients(db, peer.New("crm", cfg.CRMURL, tel)), Keeper: keeper,
		Clock: clock.System{}, OrphanAge: cfg.OrphanAge,
	}
	scribe := &call.Scribe{
		Store: kept, Recordings: recordings, Listener: studio, Transcriber: speech.NewTranscriber(cfg.transcriber(), clock.System{}, tel), Analyst: analyst,
		Clock: clock.System{}, Log: tel.Log, Waits: cfg.RetryWaits, RenewEvery: call.RenewEvery,
	}
	transcribe := func(ctx context.Context, a job.Args) error { return scribe.Transcribe(ctx, a.ID, a.Epoch) }

	ready := func(ctx context.Context) error {
		if err := db.Ping(ctx); err != nil {
			return fmt.Errorf("database: %w", err)
		}
		return callers.Ready(ctx)
	}
	api, err := web.Routes(svc, chain, callers.Authenticate, tel, cfg.MaxAudioSizeMB<<20)
	if err != nil {
		return nil, err
	}
	server, err := run.HTTP(cfg.HTTP, run.WithHealth(tel, ready, api))
	if err != nil {
		return nil, err
	}
	g.Defer("http", server.Close)
	admin, err := run.Admin(cfg.Admin, tel, ready, cfg)
	if err != nil {
		return nil, err
	}
	g.Defer("admin", admin.Close)
	consumer := bus.NewConsumer(kafka, "calls", seen, chain, tel)
	feed.Routes(consumer, svc)

	g.Add("admin", admin)
	callers.Join(g)
	g.Add("outbox", events.Relay(kafka))
	g.Add("feed", consumer)
	g.Add("inbox sweep", seen.Sweep(tel))
	g.Add("idempotency sweep", keeper.Sweep(tel))
	g.Add("recordings sweep", run.Every(sweepEvery, tel, "remove recordings without a call", svc.Sweep))
	g.Add("reclaim", run.Every(reclaimEvery, tel, "take over expired leases", scribe.Reclaim))
	g.Add("jobs", queue.Work("calls.transcribe", job.Limits{Workers: cfg.Workers, Timeout: jobTimeout}, transcribe))
	g.Add("http", server)
	return &App{group: g, http: server, ready: ready}, nil
}
