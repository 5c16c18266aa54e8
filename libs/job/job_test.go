package job_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type service struct {
	db    *pg.DB
	queue *job.Queue
	tel   telemetry.Set
}

func start(t *testing.T) service {
	t.Helper()
	tel := telemetry.Nop()
	db, err := pg.Open(t.Context(), pg.Config{URL: conf.Secret(pgtest.Schema(t)), MaxConns: 6}, "unused", tel)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	require.NoError(t, db.Migrate(t.Context(), job.Migrations()))
	chain, err := op.NewChain(tel, pg.Classify)
	require.NoError(t, err)
	queue, err := job.New(db, chain, tel)
	require.NoError(t, err)
	return service{db, queue, tel}
}

// work runs the workers until the returned function stops them.
func (s service) work(t *testing.T, timeout time.Duration, do job.Work) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.queue.Work("test.work", job.Limits{Workers: 4, Timeout: timeout}, do).Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// into hands each job to the test.
func into(jobs chan<- job.Args) job.Work {
	return func(_ context.Context, a job.Args) error { jobs <- a; return nil }
}

func TestAJobIsDoneAfterItsCommitAndNotAfterARollback(t *testing.T) {
	t.Parallel()
	s := start(t)
	jobs := make(chan job.Args, 10)
	s.work(t, time.Minute, into(jobs))
	undone := errors.New("changed my mind")
	require.ErrorIs(t, s.db.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, s.queue.Insert(ctx, event.NewID(), 1, time.Time{}))
		return undone
	}), undone)
	id := event.NewID()
	require.NoError(t, s.db.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, s.queue.Insert(ctx, id, 7, time.Time{}))
		require.Empty(t, jobs)
		return nil
	}))
	require.Equal(t, job.Args{ID: id, Epoch: 7, Trace: map[string]string{}}, <-jobs)
	other := event.NewID()
	require.NoError(t, s.queue.Insert(t.Context(), other, 1, time.Time{}), "also outside of a transaction")
	require.Equal(t, other, (<-jobs).ID)
	require.Empty(t, jobs)
}

func TestAJobWaitsForItsTime(t *testing.T) {
	t.Parallel()
	s := start(t)
	jobs := make(chan job.Args, 10)
	s.work(t, time.Minute, into(jobs))
	at := time.Now().Add(1500 * time.Millisecond)
	require.NoError(t, s.queue.Insert(t.Context(), "later", 1, at))
	require.NoError(t, s.queue.Insert(t.Context(), "tomorrow", 1, at.Add(24*time.Hour)))
	require.NoError(t, s.queue.Insert(t.Context(), "now", 1, time.Time{}))
	require.Equal(t, "now", (<-jobs).ID)
	require.Equal(t, "later", (<-jobs).ID)
	require.False(t, time.Now().Before(at))
	require.Empty(t, jobs)
}

func TestAJobWhoseRowCouldNotBeWrittenComesAgain(t *testing.T) {
	t.Parallel()
	s := start(t)
	tries := make(chan int, 10)
	n := 0
	s.work(t, time.Minute, func(context.Context, job.Args) error {
		n++
		tries <- n
		switch n {
		case 1:
			return errors.New("database away")
		case 2:
			panic("oh no")
		}
		return nil
	})
	require.NoError(t, s.queue.Insert(t.Context(), event.NewID(), 1, time.Time{}))
	for want := 1; want <= 3; want++ {
		require.Equal(t, want, <-tries)
	}
	require.Eventually(t, func() bool { return s.states(t)["completed"] == 1 }, 10*time.Second, 10*time.Millisecond)
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
		// The lease is handed back although the context is over.
		_, err := s.db.Pool().Exec(context.WithoutCancel(ctx), `select 1`)
		ended <- err
		return ctx.Err()
	})
	require.NoError(t, s.queue.Insert(t.Context(), event.NewID(), 1, time.Time{}))
	<-began
	stop()
	require.NoError(t, <-ended)
	jobs := make(chan job.Args, 1)
	again := sibling(t, s)
	again.work(t, time.Minute, into(jobs))
	<-jobs // the next process does it
}

// sibling is another process of the same service.
func sibling(t *testing.T, s service) service {
	t.Helper()
	tel := telemetry.Nop()
	chain, err := op.NewChain(tel, pg.Classify)
	require.NoError(t, err)
	queue, err := job.New(s.db, chain, tel)
	require.NoError(t, err)
	return service{s.db, queue, tel}
}

func TestAJobThatTakesTooLongLosesItsContext(t *testing.T) {
	t.Parallel()
	s := start(t)
	ended := make(chan error, 10)
	s.work(t, 50*time.Millisecond, func(ctx context.Context, _ job.Args) error {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil
	})
	require.NoError(t, s.queue.Insert(t.Context(), event.NewID(), 1, time.Time{}))
	require.ErrorIs(t, <-ended, context.DeadlineExceeded)
}

func TestTheTraceGoesOnInTheJob(t *testing.T) {
	t.Parallel()
	s := start(t)
	traces := make(chan string, 1)
	s.work(t, time.Minute, func(ctx context.Context, _ job.Args) error { traces <- telemetry.TraceID(ctx); return nil })
	ctx, span := s.tel.Tracer().Start(t.Context(), "calls.upload")
	require.NoError(t, s.queue.Insert(ctx, event.NewID(), 1, time.Time{}))
	span.End()
	require.Equal(t, span.SpanContext().TraceID().String(), <-traces)
}

func TestWhatADeadProcessLeftRunningBlocksNothing(t *testing.T) {
	t.Parallel()
	s := start(t)
	for range 5 { // more than there are workers
		require.NoError(t, s.queue.Insert(t.Context(), "stale", 1, time.Time{}))
	}
	_, err := s.db.Pool().Exec(t.Context(), `update river_job set state = 'running', attempt = 1, attempted_at = now(), attempted_by = '{dead}'`)
	require.NoError(t, err)
	jobs := make(chan job.Args, 10)
	s.work(t, time.Minute, into(jobs))
	require.NoError(t, s.queue.Insert(t.Context(), "new", 1, time.Time{}))
	require.Equal(t, "new", (<-jobs).ID)
}

func TestProcessesShareTheJobsAndEachIsDoneOnce(t *testing.T) {
	t.Parallel()
	s := start(t)
	jobs := make(chan job.Args, 200)
	s.work(t, time.Minute, into(jobs))
	sibling(t, s).work(t, time.Minute, into(jobs))
	want := map[string]bool{}
	require.NoError(t, s.db.InTx(t.Context(), func(ctx context.Context) error {
		for range 50 {
			id := event.NewID()
			want[id] = true
			require.NoError(t, s.queue.Insert(ctx, id, 1, time.Time{}))
		}
		return nil
	}))
	for range 50 {
		id := (<-jobs).ID
		require.True(t, want[id])
		delete(want, id)
	}
	require.Eventually(t, func() bool { return s.states(t)["completed"] == 50 }, 10*time.Second, 10*time.Millisecond)
	require.Empty(t, jobs)
}
