// Package job runs long work outside of requests and consumers, with River as the durable queue and worker pool. Each kind of
// work has its own queue and workers, so that one kind never waits for another; a process has one River client for all kinds.
// A job contains only an id and an epoch. The business row with that id has the state: its lease (libs/lease) counts the
// attempts, and the transaction that records an attempt inserts the next job. A job whose epoch is no longer the row's does
// nothing. The package refuses payloads and its own retry rules: it retries a job only when the row could not be written.
package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/kit/endpoint"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Migrations creates River's tables. It must run under the lock of pg.Migrate: River's migrator is not safe for concurrent use.
func Migrations() pg.Migrations {
	return pg.Migrations{Name: "river", Extra: func(ctx context.Context, db *pg.DB) error {
		migrator, err := rivermigrate.New(riverpgxv5.New(db.Pool()), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
		return err
	}}
}

// Kind names one kind of work, <service>.<verb>. It is the operation in spans, logs and metrics, and River's kind.
type Kind string

// queue returns the name of the kind's queue. River does not allow dots in it.
func (k Kind) queue() string { return strings.ReplaceAll(string(k), ".", "_") }

// Args are a job's arguments.
type Args struct {
	kind      Kind
	lease.Ref                   // of the business row
	Trace     map[string]string `json:"trace"` // W3C trace headers of the request that caused the job
}

// Kind implements river.JobArgs.
func (a Args) Kind() string { return string(a.kind) }

// Work processes one job. It returns nil when the result is recorded in the row, even if that result is a failure. An error
// means that the row could not be written; the job is then retried.
type Work func(ctx context.Context, a Args) error

// Limits are the limits of one kind in one process.
type Limits struct {
	Workers int           // concurrent jobs
	Timeout time.Duration // of one job; its context ends after it. River looks for lost jobs after the longest timeout of all kinds
}

const maxAttempts = 1000 // attempts fail only while the database is unavailable

// River's priorities: 1 is the highest.
const (
	priorityFirst  = 1
	priorityNormal = 2
)

// Queue inserts and runs the jobs of one process. After the last Handle it is safe for concurrent use.
type Queue struct {
	db    *pg.DB
	clock *pg.Clock
	tel   telemetry.Set
	chain *op.Chain
	kinds map[Kind]kind

	once   sync.Once
	client *river.Client[pgx.Tx]
	err    error
}

type kind struct {
	limits Limits
	work   Work
}

// New returns the queue in the service's schema db, whose clock decides when a job is due. The caller refreshes the clock.
func New(db *pg.DB, c *pg.Clock, chain *op.Chain, tel telemetry.Set) *Queue {
	return &Queue{db: db, clock: c, tel: tel, chain: chain, kinds: map[Kind]kind{}}
}

// Handle registers the work function of a kind. Call it before the first Insert and before Run.
func (q *Queue) Handle(k Kind, limits Limits, work Work) {
	q.kinds[k] = kind{limits, work}
}

// Empty reports whether no kind is registered.
func (q *Queue) Empty() bool { return len(q.kinds) == 0 }

// open returns the process's only River client, which both inserts and runs jobs.
func (q *Queue) open() (*river.Client[pgx.Tx], error) {
	q.once.Do(func() { q.client, q.err = q.newClient() })
	return q.client, q.err
}

func (q *Queue) newClient() (*river.Client[pgx.Tx], error) {
	workers, queues, longest := river.NewWorkers(), map[string]river.QueueConfig{}, time.Duration(0)
	for name, k := range q.kinds {
		wrapped := q.chain.Wrap(string(name), trace.SpanKindConsumer)(func(ctx context.Context, request any) (any, error) {
			a := request.(Args)
			trace.SpanFromContext(ctx).SetAttributes(attribute.String("job.id", a.ID), attribute.Int64("job.epoch", a.Epoch))
			return nil, k.work(ctx, a)
		})
		river.AddWorkerArgs(workers, Args{kind: name}, &worker{tel: q.tel, kind: name, endpoint: wrapped, timeout: k.limits.Timeout})
		queues[name.queue()] = river.QueueConfig{MaxWorkers: k.limits.Workers}
		longest = max(longest, k.limits.Timeout)
	}
	client, err := river.NewClient(riverpgxv5.New(q.db.Pool()), &river.Config{
		Logger:               slog.New(warnings{q.tel.Log.Handler()}),
		Queues:               queues,
		Workers:              workers,
		RescueStuckJobsAfter: longest + time.Minute,
		FetchCooldown:        20 * time.Millisecond,
		RetryPolicy:          backoff{q.clock},
		Hooks:                []rivertype.Hook{river.HookInsertBeginFunc(dueNow)},
		Test:                 river.TestConfig{Time: databaseTime{q.clock}},
	})
	if err != nil {
		return nil, fmt.Errorf("create the River client: %w", err)
	}
	return client, nil
}

// Insert inserts the job that the lease l requests (l.Job), in the transaction of ctx. It does nothing if the lease requests no
// job. The job joins the trace of ctx, and is due by the database's clock.
func (q *Queue) Insert(ctx context.Context, k Kind, id string, l lease.Lease) error {
	if l.Job == nil {
		return nil
	}
	client, err := q.open()
	if err != nil {
		return err
	}
	args := Args{kind: k, Ref: lease.Ref{ID: id, Epoch: l.Epoch}, Trace: q.tel.Inject(ctx)}
	opts := &river.InsertOpts{MaxAttempts: maxAttempts, Queue: k.queue(), Priority: priorityNormal}
	if l.Job.First {
		opts.Priority = priorityFirst
	}
	// A job with a ScheduledAt waits for River's scheduler, which runs every 5 s.
	if l.Job.In > 0 {
		if opts.ScheduledAt, err = q.in(ctx, l.Job.In); err != nil {
			return err
		}
	}
	if tx := q.db.Tx(ctx); tx != nil {
		_, err = client.InsertTx(ctx, tx, args, opts)
	} else {
		_, err = client.Insert(ctx, args, opts)
	}
	if err != nil {
		return fmt.Errorf("insert a job %s for %s: %w", k, id, err)
	}
	return nil
}

const (
	// drainTimeout is how long running jobs may continue after the process began to stop. Most requests to other systems end in that
	// time.
	drainTimeout = run.StopTimeout - 4*time.Second
	// stopStep is how often a stop checks that the database is there.
	stopStep = 500 * time.Millisecond
	// startMaxWait is the longest wait before a start is tried again.
	startMaxWait = 5 * time.Second
)

// Run processes jobs until ctx ends. Then it begins no further ones, and after drainTimeout it cancels the contexts of those that are
// still running, which have 3 s to hand back their leases.
func (q *Queue) Run(ctx context.Context) error {
	client, err := q.open()
	if err != nil {
		return err
	}
	started := q.start(ctx, client)
	<-ctx.Done()
	if !started {
		return nil
	}
	return q.stop(context.WithoutCancel(ctx), client)
}

// start starts River, which fails while the database does not answer. It reports whether River started before ctx
// ended.
func (q *Queue) start(ctx context.Context, client *river.Client[pgx.Tx]) bool {
	for wait := stopStep; ctx.Err() == nil; wait = min(2*wait, startMaxWait) {
		err := client.Start(context.WithoutCancel(ctx))
		if err == nil {
			return true
		}
		q.tel.Log.WarnContext(ctx, "the workers cannot be started, trying again", "error", err, "wait", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return false
}

// stop stops River. Without the database it does not wait: no result and no lease can be written, and River would resign as the leader
// three times, which takes 7 s.
func (q *Queue) stop(ctx context.Context, client *river.Client[pgx.Tx]) error {
	stopping, cancel := context.WithTimeout(ctx, run.StopTimeout-time.Second)
	defer cancel()
	draining, stopDraining := context.WithTimeout(stopping, drainTimeout)
	defer stopDraining()
	for draining.Err() == nil {
		if within(draining, stopStep, client.Stop) == nil {
			return nil
		}
		// A database that is only slow is waited for: canceled jobs would repeat their requests.
		if err := within(draining, 2*stopStep, q.db.Ping); err != nil && !errors.Is(err, context.DeadlineExceeded) && draining.Err() == nil {
			_ = within(stopping, stopStep, client.StopAndCancel)
			return nil
		}
	}
	if err := client.StopAndCancel(stopping); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("stop the workers: %w", err)
	}
	return nil
}

// within calls f with a context that ends after d.
func within(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return f(ctx)
}

type worker struct {
	river.WorkerDefaults[Args]
	tel      telemetry.Set
	kind     Kind
	endpoint endpoint.Endpoint
	timeout  time.Duration
}

func (w *worker) Work(ctx context.Context, j *river.Job[Args]) error {
	args := j.Args
	args.kind = w.kind
	ctx = w.tel.Extract(ctx, args.Trace)
	if telemetry.TraceID(ctx) != "" && j.AttemptedAt != nil { // both times are the database's
		_, span := w.tel.Tracer().Start(ctx, "queue "+string(w.kind), trace.WithTimestamp(j.ScheduledAt), trace.WithAttributes(attribute.String("job.id", args.ID), attribute.Int("job.attempt", j.Attempt)))
		span.End(trace.WithTimestamp(*j.AttemptedAt))
	}
	_, err := w.endpoint(ctx, args)
	return err
}

func (w *worker) Timeout(*river.Job[Args]) time.Duration { return w.timeout }

// warnings drops River's log lines below warning: the middleware chain already logs each job.
type warnings struct{ slog.Handler }

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}
func (h warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{h.Handler.WithAttrs(attrs)}
}
func (h warnings) WithGroup(name string) slog.Handler { return warnings{h.Handler.WithGroup(name)} }
