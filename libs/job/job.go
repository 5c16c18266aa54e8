// Package job runs long work outside of requests and consumers: River's tables are the durable timer and the worker pool. Each
// kind of work has a queue and workers of its own, so that one kind never waits for another; a process has one client for all.
// A job carries an id and an epoch, nothing else. The business row that the id names decides everything: it holds the lease
// (libs/lease), counts the attempts, and inserts the next job in the transaction that records the last attempt. A job whose
// epoch is not the row's any more does nothing.
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
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Migrations makes River's tables. It must run under the lock of pg.Migrate: River's own migrator collides with itself.
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

// Kind names one sort of work, <service>.<verb>. It is the operation in spans, logs and metrics, and River's kind.
type Kind string

// queue is the kind's queue: River allows no dots in its name.
func (k Kind) queue() string { return strings.ReplaceAll(string(k), ".", "_") }

// Args are a job's arguments.
type Args struct {
	kind  Kind
	ID    string            `json:"id"`    // of the business row
	Epoch int64             `json:"epoch"` // of its lease
	Trace map[string]string `json:"trace"` // W3C headers of the request that it belongs to
}

// Kind implements river.JobArgs.
func (a Args) Kind() string { return string(a.kind) }

// Work does one job. It returns nil when the row has recorded the result, also when that is a failure; an error means that the
// row could not be written, and the job is tried again.
type Work func(ctx context.Context, a Args) error

// Limits of the workers of one kind in one process.
type Limits struct {
	Workers int           // jobs at the same time
	Timeout time.Duration // of one job; its context ends then
}

const (
	maxAttempts = 1000 // only a database that is away makes one fail
	firstRetry  = time.Second
	mostRetry   = 30 * time.Second
	// abandonedAfter is how long a job may have been out of the queue before Abandoned lists it.
	abandonedAfter = 30 * time.Second
)

// Priorities of River: 1 goes first.
const (
	priorityFirst  = 1
	priorityNormal = 2
)

// Queue is the jobs of one process. It is safe for concurrent use.
type Queue struct {
	db    *pg.DB
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

// New makes the queue of the service whose schema db is.
func New(db *pg.DB, chain *op.Chain, tel telemetry.Set) *Queue {
	return &Queue{db: db, tel: tel, chain: chain, kinds: map[Kind]kind{}}
}

// Handle says how jobs of a kind are done. Call it before the first Insert and before Run.
func (q *Queue) Handle(k Kind, limits Limits, work Work) {
	q.kinds[k] = kind{limits, work}
}

// Empty reports whether no kind is handled.
func (q *Queue) Empty() bool { return len(q.kinds) == 0 }

// open makes the process' one client, which inserts and works.
func (q *Queue) open() (*river.Client[pgx.Tx], error) {
	q.once.Do(func() { q.client, q.err = q.newClient() })
	return q.client, q.err
}

func (q *Queue) newClient() (*river.Client[pgx.Tx], error) {
	workers, queues, longest := river.NewWorkers(), map[string]river.QueueConfig{}, time.Duration(0)
	for name, k := range q.kinds {
		wrapped := q.chain.Wrap(string(name), trace.SpanKindConsumer)(func(ctx context.Context, request any) (any, error) {
			return nil, k.work(ctx, request.(Args))
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
		RetryPolicy:          backoff{},
	})
	if err != nil {
		return nil, fmt.Errorf("make the job queue: %w", err)
	}
	return client, nil
}

// Insert adds the job that a lease asks for, in the transaction of ctx. It joins the trace of ctx. Without a request it does
// nothing. When it is due is decided by the database's clock.
func (q *Queue) Insert(ctx context.Context, k Kind, id string, l lease.Lease) error {
	if l.Job == nil {
		return nil
	}
	client, err := q.open()
	if err != nil {
		return err
	}
	args := Args{kind: k, ID: id, Epoch: l.Epoch, Trace: q.tel.Inject(ctx)}
	opts := &river.InsertOpts{MaxAttempts: maxAttempts, Queue: k.queue(), Priority: priorityNormal}
	if l.Job.First {
		opts.Priority = priorityFirst
	}
	// A job with any time waits for River's scheduler, which looks every 5 s.
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

func (q *Queue) in(ctx context.Context, d time.Duration) (at time.Time, err error) {
	if err = q.db.Conn(ctx).QueryRow(ctx, "select now() + $1::interval", d).Scan(&at); err != nil {
		return at, fmt.Errorf("read the database's clock: %w", err)
	}
	return at, nil
}

// Abandoned lists up to limit jobs of a kind that a process took out of the queue some time ago. The process may have died
// before it began with them: then the row has no holder and the job's epoch, and lease.Requeue asks for another job.
func (q *Queue) Abandoned(ctx context.Context, k Kind, limit int) ([]Args, error) {
	rows, err := q.db.Conn(ctx).Query(ctx, `
		select args->>'id', (args->>'epoch')::bigint from river_job
		where state = 'running' and kind = $1 and attempted_at < now() - $2::interval order by attempted_at limit $3`,
		string(k), abandonedAfter, limit)
	if err != nil {
		return nil, fmt.Errorf("list abandoned jobs: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Args, err error) {
		a.kind = k
		return a, row.Scan(&a.ID, &a.Epoch)
	})
	if err != nil {
		return nil, fmt.Errorf("list abandoned jobs: %w", err)
	}
	return found, nil
}

// Run does jobs until ctx ends. Then the contexts of running jobs end and they have a few seconds to hand their leases back.
func (q *Queue) Run(ctx context.Context) error {
	client, err := q.open()
	if err != nil {
		return err
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
	_, err := w.endpoint(w.tel.Extract(ctx, args.Trace), args)
	return err
}

func (w *worker) Timeout(*river.Job[Args]) time.Duration { return w.timeout }

// backoff retries a job whose row could not be written soon: what it waits for is the database.
type backoff struct{}

func (backoff) NextRetry(j *rivertype.JobRow) time.Time {
	return clock.System{}.Now().Add(min(firstRetry<<min(j.Attempt, 10), mostRetry))
}

// warnings passes on River's warnings and errors alone: the chain logs each job already.
type warnings struct{ slog.Handler }

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}
func (h warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{h.Handler.WithAttrs(attrs)}
}
func (h warnings) WithGroup(name string) slog.Handler { return warnings{h.Handler.WithGroup(name)} }
