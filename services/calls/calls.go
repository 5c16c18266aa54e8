// Package calls is the service that owns recordings of sales calls. It creates transcripts and insights from them, and stores
// its own copies of clients, made from their events.
package calls

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/convoflow/convoflow/api/contract"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/peer"
	"github.com/convoflow/convoflow/libs/phone"
	"github.com/convoflow/convoflow/libs/run"
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

const name = "calls"

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

// New connects to the database, migrates it and listens. Nothing is served before Run.
func New(ctx context.Context, cfg Config, tel telemetry.Set) (_ *service.App, err error) {
	base, err := service.Open(ctx, contract.Of(name), cfg, tel, store.Migrations())
	if err != nil {
		return nil, err
	}
	defer base.CloseIf(&err)
	maxBytes := cfg.MaxAudioSizeMB << 20
	base.MaxBody = maxBytes
	recordings, err := bucket.Open(ctx, cfg.StorageURL, maxBytes, audio.Sniff)
	if err != nil {
		return nil, err
	}
	base.Defer("recordings", recordings.Close)
	if recordings.Steps, err = tel.NewSteps("convoflow_calls_bucket_duration_seconds", "Duration of requests to the storage of recordings: store, open, remove."); err != nil {
		return nil, err
	}
	preparer, err := audio.Open(cfg.TempDir, audio.FileLimits(cfg.transcriber().Limits()), cfg.MaxAudioHours)
	if err != nil {
		return nil, err
	}
	base.Defer("audio", preparer.Close)
	if preparer.Steps, err = tel.NewSteps("convoflow_calls_audio_duration_seconds", "Duration of the runs of ffprobe (probe) and ffmpeg (decode, split, cut)."); err != nil {
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

	crm := peer.New("crm", cfg.CRMURL, tel)
	stored := store.Calls(base.DB, base.Outbox, base.Jobs, tel)
	normalize, err := phone.For(cfg.DefaultCountry)
	if err != nil {
		return nil, err
	}
	linkKey, err := hkdf.Key(sha256.New, []byte(cfg.SecretKey.Reveal()), nil, "convoflow calls audio links v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of audio links: %w", err)
	}
	clients := store.Clients(base.DB)
	watcher := &call.Watcher{Changes: store.Changes(base.DB), Log: tel.Log}
	budget := call.Budget{Usages: store.Usages(base.DB), LimitUSD: cfg.MonthlyBudgetUSD}
	calls := &call.Service{
		Calls: stored, Revisions: store.Revisions(base.DB), Database: base.DB, Recordings: recordings,
		Clients: call.Clients(clients, peer.Fetch[call.Client](crm, "/clients")), Phones: clients, Analyst: analyst,
		Leads: store.Leads(base.DB), FetchLead: peer.Fetch[call.Lead](crm, "/leads"), NormalizePhone: normalize,
		Requests: store.Requests(base.DB, base.Outbox), Consumption: store.Consumption(base.DB), AgentQuota: cfg.AgentQuota.domain(), TeamQuota: cfg.TeamQuota.domain(),
		LinkKey: linkKey, Waveforms: store.Waveforms(base.DB), Watcher: watcher, Retention: cfg.retention(), Budget: budget, Steps: store.Steps(base.DB), Clock: base.Clock,
	}
	processor := &call.Processor{
		Calls: stored, Leases: store.Leases(base.DB), Recordings: recordings,
		Preparer: preparer, Transcriber: transcriber, Analyst: analyst, Steps: store.Steps(base.DB), Budget: budget, Observer: metrics,
		Clock: base.Clock, Log: tel.Log, Holder: lease.ThisProcess(), Parallel: cfg.Concurrency, Jitter: rand.Float64, Waits: cfg.RetryWaits,
		RenewEvery: call.RenewEvery, SaveWait: call.SaveWait,
	}
	cleaner := &call.Cleaner{Calls: stored, Erasures: store.Erasures(base.DB, base.Outbox), Recordings: recordings, Clock: base.Clock, OrphanAge: cfg.OrphanAge, Log: tel.Log}
	if cleaner.Missing, err = missingRecordings(tel); err != nil {
		return nil, err
	}

	feed.Routes(base.Consumer, calls)
	web.Routes(base.Router, calls, maxBytes)
	base.Jobs.Handle(store.Transcribe, job.Limits{Workers: cfg.Workers, Timeout: transcribeTimeout}, func(ctx context.Context, a job.Args) error {
		return processor.Transcribe(ctx, a.ID, a.Epoch)
	})
	base.Jobs.Handle(store.Erase, job.Limits{Workers: eraseWorkers, Timeout: eraseTimeout}, func(ctx context.Context, a job.Args) error {
		return cleaner.Erase(ctx, a.ID)
	})
	base.Run("watcher", watcher)
	base.Run("backlog", metrics.Backlog(store.Backlog(base.DB)))
	base.Run("clean changes", run.Every(cleanEvery, tel, "remove old changes", func(ctx context.Context) error {
		return watcher.Changes.Clean(ctx, call.ChangesAge)
	}))
	base.Run("reclaim", run.Every(reclaimEvery, tel, "take over expired leases", processor.Reclaim))
	base.Run("sweep", run.Every(sweepEvery, tel, "remove recordings without a call", cleaner.Sweep))
	base.Run("erasures", run.Every(sweepEvery, tel, "erase what is on legal hold no more", calls.ContinueErasures))
	base.Run("retention", run.Every(retainEvery, tel, "remove what is older than its retention", calls.Retain))
	base.Run("reconcile", run.Every(reconcileEvery, tel, "compare recordings and calls", cleaner.Reconcile))
	return base.App()
}

// missingRecordings registers the metric of recordings that are not in the storage, and returns what sets it.
func missingRecordings(tel telemetry.Set) (func(n int), error) {
	missing := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "convoflow_calls_recordings_missing", Help: "Recordings of calls that were not in the storage when they were last compared, once a day.",
	})
	if err := tel.Metrics.Register(missing); err != nil {
		return nil, fmt.Errorf("register the metric of missing recordings: %w", err)
	}
	return func(n int) { missing.Set(float64(n)) }, nil
}

// Migrate runs the pending migrations and starts nothing: it is the migrate command.
func (c Config) Migrate(ctx context.Context, tel telemetry.Set) error {
	return service.Migrate(ctx, name, c, tel, store.Migrations())
}
