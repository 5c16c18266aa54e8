package job_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const kind job.Kind = "test.work"

type service struct {
	db    *pg.DB
	queue *job.Queue
	chain *op.Chain
	tel   telemetry.Set
}

func start(t *testing.T) service {
	t.Helper()
	return sibling(t, pgtest.Open(t, job.Migrations()))
}

// sibling is another process of the same service.
func sibling(t *testing.T, db *pg.DB) service {
	t.Helper()
	return observed(t, db, telemetry.Nop())
}

func observed(t *testing.T, db *pg.DB, tel telemetry.Set) service {
	t.Helper()
	chain, err := op.NewChain(tel, pg.Classify)
	require.NoError(t, err)
	clock, err := pg.NewClock(t.Context(), db)
	require.NoError(t, err)
	return service{db, job.New(db, clock, chain, tel), chain, tel}
}

// work runs the workers until the returned function stops them.
func (s service) work(t *testing.T, timeout time.Duration, do job.Work) (stop func()) {
	t.Helper()
	s.queue.Handle(kind, job.Limits{Workers: 4, Timeout: timeout}, do)
	return s.run(t)
}

func (s service) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.queue.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// due returns a lease that requests a job.
func due(epoch int64, in time.Duration) lease.Lease {
	return lease.Lease{Epoch: epoch, Job: &lease.Job{In: in}}
}

// insert inserts a job that is due immediately.
func (s service) insert(t *testing.T, id string) {
	t.Helper()
	require.NoError(t, s.queue.Insert(t.Context(), kind, id, due(1, 0)))
}

// sendTo sends each job to the test.
func sendTo(jobs chan<- job.Args) job.Work {
	return func(_ context.Context, a job.Args) error { jobs <- a; return nil }
}

func TestAJobRunsAfterACommitAndNotAfterARollback(t *testing.T) {
	t.Parallel()
	s := start(t)
	jobs := make(chan job.Args, 10)
	s.work(t, time.Minute, sendTo(jobs))
	undone := errors.New("changed my mind")
	require.ErrorIs(t, s.db.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, s.queue.Insert(ctx, kind, event.NewID(), due(1, 0)))
		return undone
	}), undone)
	id := event.NewID()
	require.NoError(t, s.db.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, s.queue.Insert(ctx, kind, id, due(7, 0)))
		require.Empty(t, jobs)
		return nil
	}))
	got := <-jobs
	require.Equal(t, id, got.ID)
	require.Equal(t, int64(7), got.Epoch)
	other := event.NewID()
	s.insert(t, other)
	require.Equal(t, other, (<-jobs).ID)
	require.Empty(t, jobs)
}

func TestAScheduledJobRunsWhenItIsDue(t *testing.T) {
	t.Parallel()
	s := start(t)
	jobs := make(chan job.Args, 10)
	s.work(t, time.Minute, sendTo(jobs))
	const wait = 1500 * time.Millisecond
	began := time.Now()
	require.NoError(t, s.queue.Insert(t.Context(), kind, "later", due(1, wait)))
	require.NoError(t, s.queue.Insert(t.Context(), kind, "tomorrow", due(1, 24*time.Hour)))
	s.insert(t, "now")
	require.Equal(t, "now", (<-jobs).ID)
	require.Equal(t, "later", (<-jobs).ID)
	require.GreaterOrEqual(t, time.Since(began), wait)
	require.Empty(t, jobs)
	require.NoError(t, s.queue.Insert(t.Context(), kind, "nothing", lease.Lease{Epoch: 1}), "a lease that requests no job gets none")
	require.Equal(t, 1, s.states(t)["scheduled"])
}

func TestAKindNeverWaitsForAnother(t *testing.T) {
	t.Parallel()
	s := start(t)
	const slow, other job.Kind = "test.slow", "test.other"
	block, jobs := make(chan struct{}), make(chan job.Args, 1)
	t.Cleanup(func() { close(block) })
	s.queue.Handle(slow, job.Limits{Workers: 1, Timeout: time.Minute}, func(ctx context.Context, _ job.Args) error {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return nil
	})
	s.queue.Handle(other, job.Limits{Workers: 1, Timeout: time.Minute}, sendTo(jobs))
	for range 5 {
		require.NoError(t, s.queue.Insert(t.Context(), slow, "slow", due(1, 0)))
	}
	require.NoError(t, s.queue.Insert(t.Context(), other, "other", due(1, 0)))
	s.run(t)
	require.Equal(t, "other", (<-jobs).ID)
	require.Error(t, s.queue.Insert(t.Context(), "test.unknown", "x", due(1, 0)), "no worker would run it")
}

func TestReclaimedWorkRunsFirst(t *testing.T) {
	t.Parallel()
	s := start(t)
	var order []string
	done := make(chan struct{}, 10)
	s.queue.Handle(kind, job.Limits{Workers: 1, Timeout: time.Minute}, func(_ context.Context, a job.Args) error {
		order = append(order, a.ID) // one worker
		done <- struct{}{}
		return nil
	})
	for _, id := range []string{"1", "2", "3"} {
		s.insert(t, id)
	}
	require.NoError(t, s.queue.Insert(t.Context(), kind, "reclaimed", lease.Lease{Epoch: 2, Job: &lease.Job{First: true}}))
	s.run(t)
	for range 4 {
		<-done
	}
	require.Equal(t, []string{"reclaimed", "1", "2", "3"}, order)
}

func TestAJobThatReturnsAnErrorIsRetried(t *testing.T) {
	t.Parallel()
	s := start(t)
	attempts := make(chan int, 10)
	n := 0
	s.work(t, time.Minute, func(context.Context, job.Args) error {
		n++
		attempts <- n
		switch n {
		case 1:
			return errors.New("database unavailable")
		case 2:
			panic("oh no")
		}
		return nil
	})
	s.insert(t, event.NewID())
	for want := 1; want <= 3; want++ {
		require.Equal(t, want, <-attempts)
	}
	require.Eventually(t, func() bool { return s.states(t)["completed"] == 1 }, time.Minute, 10*time.Millisecond)
}

func (s service) states(t *testing.T) map[string]int {
	rows, err := s.db.Pool().Query(t.Context(), `select state::text, count(*) from river_job group by state`)
	require.NoError(t, err)
	defer rows.Close()
	states := map[string]int{}
	for rows.Next() {
		var state string
		var n int
		require.NoError(t, rows.Scan(&state, &n))
		states[state] = n
	}
	return states
}

func TestTheContextOfAJobEndsWhenTheWorkersStop(t *testing.T) {
	t.Parallel()
	s := start(t)
	began, ended := make(chan struct{}), make(chan error, 1)
	stop := s.work(t, time.Minute, func(ctx context.Context, _ job.Args) error {
		close(began)
		<-ctx.Done()
		// A worker can still hand back its lease after its context has ended.
		_, err := s.db.Pool().Exec(context.WithoutCancel(ctx), `select 1`)
		ended <- err
		return ctx.Err()
	})
	s.insert(t, event.NewID())
	<-began
	stop()
	require.NoError(t, <-ended)
	jobs := make(chan job.Args, 1)
	sibling(t, s.db).work(t, time.Minute, sendTo(jobs))
	<-jobs // the next process runs it
}

func TestTheContextOfAJobEndsAtItsTimeout(t *testing.T) {
	t.Parallel()
	s := start(t)
	ended := make(chan error, 10)
	s.work(t, 50*time.Millisecond, func(ctx context.Context, _ job.Args) error {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil
	})
	s.insert(t, event.NewID())
	require.ErrorIs(t, <-ended, context.DeadlineExceeded)
}

func TestAJobJoinsTheTraceOfItsRequest(t *testing.T) {
	t.Parallel()
	s := start(t)
	traces := make(chan string, 1)
	s.work(t, time.Minute, func(ctx context.Context, _ job.Args) error { traces <- telemetry.TraceID(ctx); return nil })
	ctx, span := s.tel.Tracer().Start(t.Context(), "calls.upload")
	require.NoError(t, s.queue.Insert(ctx, kind, event.NewID(), due(1, 0)))
	span.End()
	require.Equal(t, span.SpanContext().TraceID().String(), <-traces)
}

func TestJobsOfADeadProcessDoNotBlockOthers(t *testing.T) {
	t.Parallel()
	s := start(t)
	jobs := make(chan job.Args, 10)
	s.queue.Handle(kind, job.Limits{Workers: 4, Timeout: time.Minute}, sendTo(jobs))
	for range 5 { // more than there are workers
		s.insert(t, "stale")
	}
	_, err := s.db.Pool().Exec(t.Context(), `update river_job set state = 'running', attempt = 1, attempted_at = now(), attempted_by = '{dead}'`)
	require.NoError(t, err)
	s.run(t)
	s.insert(t, "new")
	require.Equal(t, "new", (<-jobs).ID)
}

func TestProcessesShareTheJobsAndEachRunsOnce(t *testing.T) {
	t.Parallel()
	s := start(t)
	jobs := make(chan job.Args, 200)
	s.work(t, time.Minute, sendTo(jobs))
	sibling(t, s.db).work(t, time.Minute, sendTo(jobs))
	want := map[string]bool{}
	require.NoError(t, s.db.InTx(t.Context(), func(ctx context.Context) error {
		for range 50 {
			id := event.NewID()
			want[id] = true
			require.NoError(t, s.queue.Insert(ctx, kind, id, due(1, 0)))
		}
		return nil
	}))
	for range 50 {
		id := (<-jobs).ID
		require.True(t, want[id])
		delete(want, id)
	}
	require.Eventually(t, func() bool { return s.states(t)["completed"] == 50 }, time.Minute, 10*time.Millisecond)
	require.Empty(t, jobs)
}
