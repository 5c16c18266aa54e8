// Package job runs long work outside of requests and consumers: River's tables are the durable timer and the worker pool.
// A job carries an id and an epoch, nothing else. The business row that the id names decides everything: it counts the
// attempts, holds the lease, and inserts the next job in the transaction that records the last attempt. A job whose epoch
// is not the row's any more does nothing.
package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-kit/kit/endpoint"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Migrations makes River's tables. It must come under the lock of pg.Migrate: River's own migrator collides with itself.
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

// Args are a job's arguments.
type Args struct {
	ID    string            `json:"id"`    // of the business row
	Epoch int64             `json:"epoch"` // of its lease
	Trace map[string]string `json:"trace"` // W3C headers of the request that it belongs to
}

// Kind is the same for all jobs: a schema has one kind of long work.
func (Args) Kind() string { return "work" }

// Work does one job. It returns nil when the row has recorded what became of it, also when that is a failure; an error
// means that the row could not be written, and the job comes again.
type Work func(ctx context.Context, a Args) error

const (
	maxAttempts = 1000 // only a database that is away makes one fail
	firstRetry  = time.Second
	mostRetry   = 30 * time.Second
)

// Queue is the jobs of one service.
type Queue struct {
	db     *pg.DB
	tel    telemetry.Set
	chain  *rpc.Chain
	insert *river.Client[pgx.Tx]
}

// New makes the queue of the service whose schema db is.
func New(db *pg.DB, chain *rpc.Chain, tel telemetry.Set) (*Queue, error) {
	client, err := river.NewClient(riverpgxv5.New(db.Pool()), &river.Config{Logger: slog.New(quiet{tel.Log.Handler()})})
	if err != nil {
		return nil, fmt.Errorf("make the job queue: %w", err)
	}
	return &Queue{db: db, tel: tel, chain: chain, insert: client}, nil
}

// Insert adds a job in the transaction of ctx, to be done at that time, or at once when that is over. It joins the trace of
// ctx.
func (q *Queue) Insert(ctx context.Context, id string, epoch int64, at time.Time) error {
	args := Args{ID: id, Epoch: epoch, Trace: q.tel.Inject(ctx)}
	opts := &river.InsertOpts{MaxAttempts: maxAttempts}
	// A job with any time waits for River's scheduler, which looks every 5 s.
	if at.After(clock.System{}.Now()) {
		opts.ScheduledAt = at
	}
	var err error
	if tx := q.db.Tx(ctx); tx != nil {
		_, err = q.insert.InsertTx(ctx, tx, args, opts)
	} else {
		_, err = q.insert.Insert(ctx, args, opts)
	}
	if err != nil {
		return fmt.Errorf("insert a job for %s: %w", id, err)
	}
	return nil
}

// Limits of the workers of one process.
type Limits struct {
	Workers int           // jobs at the same time
	Timeout time.Duration // of one job; its context ends then
}

// Work does jobs as an actor. op names the operation in spans, logs and metrics. When the actor stops, the context of
// running jobs ends and they have a few seconds to hand their lease back.
func (q *Queue) Work(op string, limits Limits, work Work) run.Actor {
	return run.Func(func(ctx context.Context) error {
		workers := river.NewWorkers()
		wrapped := q.chain.Wrap(op, trace.SpanKindConsumer)(func(ctx context.Context, request any) (any, error) {
			return nil, work(ctx, request.(Args))
		})
		river.AddWorker(workers, &worker{tel: q.tel, endpoint: wrapped, timeout: limits.Timeout})
		client, err := river.NewClient(riverpgxv5.New(q.db.Pool()), &river.Config{
			Logger:               slog.New(quiet{q.tel.Log.Handler()}),
			Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: limits.Workers}},
			Workers:              workers,
			RescueStuckJobsAfter: limits.Timeout + time.Minute,
			FetchCooldown:        20 * time.Millisecond,
			RetryPolicy:          backoff{},
		})
		if err != nil {
			return fmt.Errorf("make the workers: %w", err)
		}
		if err := client.Start(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("start the workers: %w", err)
		}
		<-ctx.Done()
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), run.StopTimeout-time.Second)
		defer cancel()
		if err := client.StopAndCancel(stopping); err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("stop the workers: %w", err)
		}
		return nil
	})
}

type worker struct {
	river.WorkerDefaults[Args]
	tel      telemetry.Set
	endpoint endpoint.Endpoint
	timeout  time.Duration
}

func (w *worker) Work(ctx context.Context, j *river.Job[Args]) error {
	_, err := w.endpoint(w.tel.Extract(ctx, j.Args.Trace), j.Args)
	return err
}

func (w *worker) Timeout(*river.Job[Args]) time.Duration { return w.timeout }

// backoff retries a job whose row could not be written soon: what it waits for is the database.
type backoff struct{}

func (backoff) NextRetry(j *rivertype.JobRow) time.Time {
	return clock.System{}.Now().Add(min(firstRetry<<min(j.Attempt, 10), mostRetry))
}

// quiet lets only River's warnings and errors through: our own chain logs each job already.
type quiet struct{ slog.Handler }

func (h quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}
func (h quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{h.Handler.WithAttrs(attrs)} }
func (h quiet) WithGroup(name string) slog.Handler       { return quiet{h.Handler.WithGroup(name)} }
