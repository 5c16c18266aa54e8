// Package calls is the service that owns recordings of sales calls. It creates transcripts and insights from them, and stores
// its own copies of clients, made from their events.
package calls

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/convoflow/convoflow/api/contract"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/peer"
	"github.com/convoflow/convoflow/libs/phone"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/seal"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/audio"
	"github.com/convoflow/convoflow/services/calls/internal/bucket"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/feed"
	"github.com/convoflow/convoflow/services/calls/internal/meter"
	"github.com/convoflow/convoflow/services/calls/internal/store"
	"github.com/convoflow/convoflow/services/calls/internal/web"
)

const (
	transcribeTimeout = 45 * time.Minute // for decoding, all chunks of a long recording and the insights
	eraseTimeout      = time.Minute
	eraseWorkers      = 2
	reclaimEvery      = 5 * time.Second
	sweepEvery        = 10 * time.Minute
	cleanEvery        = 10 * time.Minute
	retainEvery       = time.Hour
	reconcileEvery    = 24 * time.Hour
)

// Contract returns the API, the topics and the tables of the service.
func Contract() service.Contract { return contract.Of("calls", store.Migrations()) }

// New connects to the database, migrates it and listens. Nothing is served before Run.
func New(ctx context.Context, cfg Config, tel telemetry.Set) (_ *service.App, err error) {
	base, err := service.Open(ctx, Contract(), cfg, tel)
	if err != nil {
		return nil, err
	}
	defer base.CloseIf(&err)
	recordings, err := cfg.recordings(ctx, base)
	if err != nil {
		return nil, err
	}
	preparer, err := cfg.preparer(base)
	if err != nil {
		return nil, err
	}
	transcriber, analyst, err := cfg.providers(base.Clock, tel)
	if err != nil {
		return nil, err
	}
	metrics, err := meter.New(tel)
	if err != nil {
		return nil, err
	}
	if err := cfg.reportProviders(ctx, base, transcriber.OutOfQuota, analyst.OutOfQuota); err != nil {
		return nil, err
	}
	normalize, err := phone.For(cfg.DefaultCountry)
	if err != nil {
		return nil, err
	}
	linkKey, err := cfg.linkKey()
	if err != nil {
		return nil, err
	}

	crm := peer.New("crm", cfg.CRMURL, tel)
	stored, clients, steps := store.Calls(base.DB, base.Outbox, base.Jobs, tel), store.Clients(base.DB), store.Steps(base.DB)
	watcher := &call.Watcher{Changes: store.Changes(base.DB), Log: tel.Log}
	budget := call.Budget{Usages: store.Usages(base.DB), LimitUSD: cfg.MonthlyBudgetUSD}
	calls := &call.Service{
		Calls: stored, Revisions: store.Revisions(base.DB), Database: base.DB, Recordings: recordings,
		Clients: call.Clients(clients, peer.Fetch[call.Client](crm, "/clients")), Phones: clients, Analyst: analyst,
		Leads: store.Leads(base.DB), FetchLead: peer.Fetch[call.Lead](crm, "/leads"), NormalizePhone: normalize,
		Requests: store.Requests(base.DB, base.Outbox), Consumption: store.Consumption(base.DB), AgentQuota: cfg.AgentQuota.domain(), TeamQuota: cfg.TeamQuota.domain(),
		LinkKey: linkKey, Waveforms: store.Waveforms(base.DB), Watcher: watcher, Retention: cfg.retention(), Budget: budget, Steps: steps, Clock: base.Clock,
	}
	processor := &call.Processor{
		Calls: stored, Leases: store.Leases(base.DB), Recordings: recordings,
		Preparer: preparer, Transcriber: transcriber, Analyst: analyst, Steps: steps, Budget: budget, Observer: metrics,
		Clock: base.Clock, Log: tel.Log, Holder: lease.ThisProcess(), Parallel: cfg.Concurrency, Jitter: rand.Float64, Waits: cfg.RetryWaits,
		RenewEvery: call.RenewEvery, SaveWait: call.SaveWait,
	}
	cleaner := &call.Cleaner{
		Calls: stored, Erasures: store.Erasures(base.DB, base.Outbox), Recordings: recordings, Missing: metrics.Missing, Clock: base.Clock,
		OrphanAge: cfg.OrphanAge, Log: tel.Log,
	}

	base.MaxBody = cfg.maxBytes()
	feed.Routes(base.Consumer, calls)
	web.Routes(base.Router, calls, cfg.maxBytes())
	background(base, cfg.Workers, calls, processor, cleaner)
	base.Run("backlog", metrics.Backlog(store.Backlog(base.DB)))
	return base.App()
}

// background adds the work that no request waits for: jobs and periodic work.
func background(base *service.Base, workers int, calls *call.Service, processor *call.Processor, cleaner *call.Cleaner) {
	base.Jobs.Handle(store.Transcribe, job.Limits{Workers: workers, Timeout: transcribeTimeout}, func(ctx context.Context, a job.Args) error {
		return processor.Transcribe(ctx, a.ID, a.Epoch)
	})
	base.Jobs.Handle(store.Erase, job.Limits{Workers: eraseWorkers, Timeout: eraseTimeout}, func(ctx context.Context, a job.Args) error {
		return cleaner.Erase(ctx, a.ID)
	})
	base.Run("watcher", calls.Watcher)
	base.Run("clean changes", run.Every(cleanEvery, base.Tel, "remove old changes", func(ctx context.Context) error {
		return calls.Watcher.Changes.Clean(ctx, call.ChangesAge)
	}))
	base.Run("reclaim", run.Every(reclaimEvery, base.Tel, "take over expired leases", processor.Reclaim))
	base.Run("sweep", run.Every(sweepEvery, base.Tel, "remove recordings without a call", cleaner.Sweep))
	base.Run("erasures", run.Every(sweepEvery, base.Tel, "erase what is on legal hold no more", calls.ContinueErasures))
	base.Run("retention", run.Every(retainEvery, base.Tel, "remove what is older than its retention", calls.Retain))
	base.Run("reconcile", run.Every(reconcileEvery, base.Tel, "compare recordings and calls", cleaner.Reconcile))
}

// recordings opens the bucket and registers the metric of its durations.
func (c Config) recordings(ctx context.Context, base *service.Base) (*bucket.Bucket, error) {
	b, err := c.openBucket(ctx)
	if err != nil {
		return nil, err
	}
	base.Defer("recordings", b.Close)
	b.Steps, err = base.Tel.NewSteps("convoflow_calls_bucket_duration_seconds", "Duration of requests to the storage of recordings: store, open, remove.")
	return b, err
}

// preparer returns what runs ffmpeg, and registers the metric of its durations.
func (c Config) preparer(base *service.Base) (*audio.Preparer, error) {
	p, err := audio.Open(c.TempDir, audio.FileLimits(c.transcriber().Limits()), c.MaxAudioHours)
	if err != nil {
		return nil, err
	}
	base.Defer("audio", p.Close)
	p.Steps, err = base.Tel.NewSteps("convoflow_calls_audio_duration_seconds", "Duration of the runs of ffprobe (probe) and ffmpeg (decode, split, cut).")
	return p, err
}

// linkKey returns the key that signs the addresses of recordings.
func (c Config) linkKey() ([]byte, error) {
	return seal.DeriveKey(c.SecretKey.Reveal(), "convoflow calls audio links v1")
}
