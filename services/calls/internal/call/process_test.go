package call_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

func TestChunksAreJoinedWithTheirTimes(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	require.NoError(t, f.transcribe(t, t.Context(), id))
	c := f.find(t, id)
	require.Equal(t, call.Completed, c.Status)
	require.Equal(t, "part a\npart b", c.Transcript.Text)
	require.Equal(t, []call.Segment{{Start: 1, End: 2, Text: "a"}, {Start: 11, End: 12, Text: "b"}}, c.Transcript.Segments)
	require.Equal(t, []string{"call.uploaded", "call.transcribing", "transcription.completed"}, pgtest.Column[string](t, f.db, `select type from outbox where key = $1 order by id`, id))
}

func TestAJobDoneTwiceDoesNothingTheSecondTime(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	require.NoError(t, f.processor.Transcribe(t.Context(), id, 1))
	require.NoError(t, f.processor.Transcribe(t.Context(), id, 1))
	require.NoError(t, f.processor.Transcribe(t.Context(), event.NewID(), 1), "a call that was removed")
	require.Equal(t, int64(1), f.provider.analysed.Load())
}

// The worker dies after the transcript was saved: its lease expires, another worker takes over, and does not transcribe again.
func TestACrashAfterTheTranscriptPaysForItOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.processor.RenewEvery = time.Hour
	id := f.create(t)
	dying, die := context.WithCancel(t.Context())
	died := make(chan struct{})
	f.provider.onAnalyse = func(ctx context.Context) error {
		require.NotNil(t, f.find(t, id).Transcript)
		close(died)
		<-ctx.Done()
		return lease.ErrSuperseded // a killed process writes nothing
	}
	done := make(chan error, 1)
	go func() { done <- f.transcribe(t, dying, id) }()
	<-died
	die()
	require.NoError(t, <-done)
	before := f.find(t, id).Lease
	require.Equal(t, "this process", *before.Holder)

	require.NoError(t, f.processor.Reclaim(t.Context()))
	require.Equal(t, before.Epoch, f.find(t, id).Lease.Epoch, "the lease has not expired")
	f.expire(t, id)
	require.NoError(t, f.processor.Reclaim(t.Context()))
	require.Equal(t, before.Epoch+1, f.find(t, id).Lease.Epoch)
	require.Equal(t, []int{first}, f.priorities(t, id, before.Epoch+1), "it continues before other work")
	require.NoError(t, f.processor.Reclaim(t.Context()))
	require.Len(t, f.priorities(t, id, before.Epoch+1), 1, "once")

	f.provider.onAnalyse = nil
	require.NoError(t, f.transcribe(t, t.Context(), id))
	require.Equal(t, call.Completed, f.find(t, id).Status)
	require.Equal(t, int64(2), f.provider.transcribed.Load(), "two chunks, each once")
}

// A worker that was stopped for a while (SIGSTOP) continues after another worker got its lease.
func TestALateResultIsRefused(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.processor.RenewEvery = time.Hour
	id := f.create(t)
	stopped, goOn := make(chan struct{}), make(chan struct{})
	f.provider.onAnalyse = func(context.Context) error {
		close(stopped)
		<-goOn
		return nil
	}
	late := make(chan error, 1)
	go func() { late <- f.transcribe(t, t.Context(), id) }()
	<-stopped
	f.expire(t, id)
	require.NoError(t, f.processor.Reclaim(t.Context()))
	epoch := f.find(t, id).Lease.Epoch
	f.provider.onAnalyse = nil
	require.NoError(t, f.processor.Transcribe(t.Context(), id, epoch))
	version := f.find(t, id).Version
	close(goOn)
	require.NoError(t, <-late, "it is no error, and no second result")
	require.Equal(t, version, f.find(t, id).Version)
	require.Len(t, pgtest.Column[string](t, f.db, `select type from outbox where key = $1 and type = 'transcription.completed'`, id), 1)
}

func TestAWorkerRenewsItsLeaseAndStopsWhenItIsLost(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	working := make(chan struct{})
	f.provider.onTranscribe = func(ctx context.Context) error {
		close(working)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- f.transcribe(t, t.Context(), id) }()
	<-working
	version := f.find(t, id).Version
	f.exec(t, `update calls set lease_until = now() + interval '1 second' where id = $1`, id)
	require.Eventually(t, func() bool { return *f.find(t, id).Lease.Left > 5*time.Second }, servicetest.Timeout, time.Millisecond, "it renews")
	require.Equal(t, version, f.find(t, id).Version, "a renewal changes nothing that an answer shows")
	_, err := f.calls.Change(t.Context(), id, func(c *call.Call) ([]event.Event, error) {
		expire(c)
		return c.Reclaim(c.Lease.Epoch, noon())
	})
	require.NoError(t, err)
	require.NoError(t, <-done)
	c := f.find(t, id)
	require.Nil(t, c.Lease.Holder)
	require.Zero(t, c.Lease.Failures)
}

func TestReclaimTakesTheLongestExpiredFirstAndLeavesWaitingJobsAlone(t *testing.T) {
	t.Parallel()
	f := open(t)
	var ids []string
	for range 3 {
		id := f.create(t)
		_, err := f.calls.Change(t.Context(), id, func(c *call.Call) ([]event.Event, error) { return c.Begin(c.Lease.Epoch, "dead", time.Minute, noon()) })
		require.NoError(t, err)
		ids = append(ids, id)
	}
	waiting := f.find(t, f.create(t))
	for i, id := range ids {
		f.exec(t, `update calls set lease_until = now() - make_interval(secs => $2) where id = $1`, id, i+1)
	}
	lost, err := f.processor.Leases.ListLost(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, []lease.Ref{{ID: ids[2], Epoch: 2}, {ID: ids[1], Epoch: 2}}, lost)
	require.NoError(t, f.processor.Reclaim(t.Context()))
	for _, id := range ids {
		require.Nil(t, f.find(t, id).Lease.Holder)
	}
	require.Equal(t, waiting, f.find(t, waiting.ID))
}

func TestAJobThatADeadProcessNeverBeganIsQueuedAgain(t *testing.T) {
	t.Parallel()
	f := open(t)
	abandoned, begun := f.create(t), f.create(t)
	_, err := f.calls.Change(t.Context(), begun, func(c *call.Call) ([]event.Event, error) { return c.Begin(c.Lease.Epoch, "alive", time.Minute, noon()) })
	require.NoError(t, err)
	f.exec(t, `update river_job set state = 'running', attempt = 1, attempted_by = '{dead}', attempted_at = now() - interval '1 minute'`)
	before, working := f.find(t, abandoned), f.find(t, begun)
	require.NoError(t, f.processor.Reclaim(t.Context()))
	require.NoError(t, f.processor.Reclaim(t.Context()))
	after := f.find(t, abandoned)
	require.Equal(t, before.Lease.Epoch+1, after.Lease.Epoch)
	require.Equal(t, before.Version, after.Version)
	require.Equal(t, []int{first}, f.priorities(t, abandoned, after.Lease.Epoch), "once")
	require.Equal(t, working.Lease.Epoch, f.find(t, begun).Lease.Epoch, "its worker is alive")
}

// waiting inserts calls with their jobs, all older than that call, from which they are copied.
func (f *fixture) waiting(t *testing.T, of string, n int) {
	t.Helper()
	var columns string
	require.NoError(t, f.db.Conn(t.Context()).QueryRow(t.Context(), `
		select string_agg(column_name, ',') from information_schema.columns where table_schema = current_schema() and table_name = 'calls' and column_name <> 'id'`).Scan(&columns))
	f.exec(t, `insert into calls (id,`+columns+`) select gen_random_uuid(),`+columns+` from calls, generate_series(1, $2) where id = $1`, of, n)
	f.exec(t, `insert into river_job (state, queue, kind, args, max_attempts, priority, scheduled_at)
		select 'available', 'calls_transcribe', 'calls.transcribe', jsonb_build_object('id', id, 'epoch', lease_epoch), 1000, 2, now() - interval '1 day' from calls where id <> $1`, of)
	f.exec(t, `analyze calls, river_job`)
}

// Two thousand waiting calls once hid two dead ones for minutes, because one query listed both.
func TestTheTakeoverDoesNotDependOnWaitingCalls(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.waiting(t, f.create(t), 4000)
	begun, fetched := f.create(t), f.create(t)
	_, err := f.calls.Change(t.Context(), begun, func(c *call.Call) ([]event.Event, error) { return c.Begin(1, "dead", time.Minute, noon()) })
	require.NoError(t, err)
	f.expire(t, begun)
	f.exec(t, `update river_job set state = 'running', attempted_at = now() - interval '1 minute' where args->>'id' = any($1)`, []string{begun, fetched})

	lost, err := f.processor.Leases.ListLost(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, []lease.Ref{{ID: begun, Epoch: 2}, {ID: fetched, Epoch: 1}}, lost, "the first of each")
	require.NoError(t, f.processor.Reclaim(t.Context()))
	require.NoError(t, f.processor.Reclaim(t.Context()))
	front := pgtest.Column[string](t, f.db, `select args->>'id' from river_job where state = 'available' order by priority, scheduled_at, id limit 3`)
	require.ElementsMatch(t, []string{begun, fetched}, front[:2], "they are next")
	require.Equal(t, []int{4005}, pgtest.Column[int](t, f.db, `select count(*)::int from river_job`), "4,001 that wait, the two of the dead process, and one more for each of these")
}

// At whatever moment a process is killed, its call is queued again by the next Reclaim, or needs no job. River itself would look
// for lost jobs only after the longest timeout of all kinds.
func TestNoMomentOfAKillWaitsForRiver(t *testing.T) {
	t.Parallel()
	boundary := errors.New("killed")
	for name, c := range map[string]struct {
		saves  int64 // that succeed before the kill
		status call.Status
		queued int
	}{
		"after the job was fetched": {0, call.Pending, 1},
		"after Begin":               {1, call.Transcribing, 1},
		"after the decoding":        {2, call.Transcribing, 1},
		"after a part":              {3, call.Transcribing, 1},
		"after the transcript":      {4, call.Transcribing, 1},
		"after the result":          {5, call.Completed, 0},
	} {
		f := open(t)
		id := f.create(t)
		f.exec(t, `update river_job set state = 'running', attempt = 1, attempted_at = now() - interval '1 minute'`)
		f.processor.Calls = &dying{Store: f.calls, left: c.saves, err: boundary}
		f.processor.RenewEvery = time.Hour
		_ = f.transcribe(t, t.Context(), id)
		f.processor.Calls = f.calls
		require.Equal(t, c.status, f.find(t, id).Status, name)
		f.expire(t, id)
		require.NoError(t, f.processor.Reclaim(t.Context()))
		require.NoError(t, f.processor.Reclaim(t.Context()))
		jobs := pgtest.Column[int](t, f.db, `select priority::int from river_job where state = 'available' and (args->>'epoch')::bigint = $1`, f.find(t, id).Lease.Epoch)
		require.ElementsMatch(t, slices.Repeat([]int{first}, c.queued), jobs, name)
		if c.queued > 0 {
			require.NoError(t, f.transcribe(t, t.Context(), id))
		}
		require.Equal(t, call.Completed, f.find(t, id).Status, name)
	}
}

// dying is the store of a process that is killed: after some saves, nothing is saved any more.
type dying struct {
	call.Store
	left int64
	err  error
}

func (d *dying) Change(ctx context.Context, id string, fn func(*call.Call) ([]event.Event, error)) (call.Call, error) {
	if d.left--; d.left < 0 {
		return call.Call{}, d.err
	}
	return d.Store.Change(ctx, id, fn)
}

func TestAWorkerThatHasToStopHandsBack(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	ctx, stop := context.WithCancel(t.Context())
	f.provider.onTranscribe = func(ctx context.Context) error {
		stop()
		<-ctx.Done()
		return ctx.Err()
	}
	require.NoError(t, f.transcribe(t, ctx, id))
	c := f.find(t, id)
	require.Equal(t, call.Transcribing, c.Status)
	require.Nil(t, c.Lease.Holder)
	require.Zero(t, c.Lease.Failures, "stopping is no failure")
	require.Equal(t, []int{first}, f.priorities(t, id, c.Lease.Epoch))
}

// expiring is a context whose deadline passes when expired is closed.
type expiring struct {
	context.Context
	expired chan struct{}
}

func (e expiring) Done() <-chan struct{} { return e.expired }

func (e expiring) Err() error {
	select {
	case <-e.expired:
		return context.DeadlineExceeded
	default:
		return e.Context.Err()
	}
}

func TestAJobThatTakesTooLongIsAFailure(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.processor.Waits = nil
	id := f.create(t)
	ctx := expiring{t.Context(), make(chan struct{})}
	f.provider.onTranscribe = func(inner context.Context) error {
		close(ctx.expired)
		<-inner.Done()
		return inner.Err()
	}
	require.NoError(t, f.transcribe(t, ctx, id))
	c := f.find(t, id)
	require.Equal(t, call.Failed, c.Status)
	require.Equal(t, call.CodeTimeout, c.Problem.Code)
}

func TestAnInternalErrorShowsNothingInternal(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.processor.Waits = nil
	f.provider.onTranscribe = func(context.Context) error { return errors.New("secret of the machine room") }
	id := f.create(t)
	require.NoError(t, f.transcribe(t, t.Context(), id))
	c := f.find(t, id)
	require.Equal(t, "internal_error", c.Problem.Code)
	require.NotContains(t, c.Problem.Message, "secret")
}

func TestAMissingRecordingEndsTheCall(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.bucket.err = fault.New(fault.NotFound, "audio_not_found", "It was removed")
	id := f.create(t)
	require.NoError(t, f.transcribe(t, t.Context(), id))
	require.Equal(t, &call.Problem{Code: call.CodeMissing, Message: "The recording is not in the storage any more"}, f.find(t, id).Problem)
}

// flaky is a store of which that many saves fail with err, from that of the result on.
type flaky struct {
	call.Store
	err   error
	times int
	saves atomic.Int64
}

func (f *flaky) Change(ctx context.Context, id string, fn func(*call.Call) ([]event.Event, error)) (call.Call, error) {
	if n := f.saves.Add(1) - 4; n > 0 && n <= int64(f.times) { // after Begin, SetDuration, SetTranscribed and SetTranscript
		return call.Call{}, f.err
	}
	return f.Store.Change(ctx, id, fn)
}

func TestASaveIsRetriedWhileTheDatabaseIsUnavailableAndNotForEver(t *testing.T) {
	t.Parallel()
	unavailable := fault.New(fault.Unavailable, "database_unavailable", "away")
	for _, c := range []struct {
		err      error
		failures int
		want     call.Status
		saves    int64
		retried  bool
	}{
		{unavailable, 5, call.Completed, 4 + 5 + 1, false},
		{context.DeadlineExceeded, 5, call.Completed, 4 + 5 + 1, false},
		{unavailable, 22, call.Transcribing, 4 + 22 + 1, true}, // the last records the failure
	} {
		f := open(t)
		broken := &flaky{Store: f.calls, err: c.err, times: c.failures}
		f.processor.Calls = broken
		f.processor.RenewEvery = time.Hour
		id := f.create(t)
		require.NoError(t, f.transcribe(t, t.Context(), id))
		got := f.find(t, id)
		require.Equal(t, c.want, got.Status)
		require.Equal(t, c.saves, broken.saves.Load())
		require.Equal(t, c.retried, got.Lease.Failures == 1)
		require.Equal(t, int64(1), f.provider.analysed.Load())
	}
}

// Because of a NUL in an answer, a call was once transcribing for ever: its worker renewed the lease and tried to save it every half second.
func TestAResultThatTheDatabaseRefusesFailsTheCall(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*fixture){
		"transcript": func(f *fixture) { f.provider.dirty = "\x00" },
		"insights": func(f *fixture) {
			f.provider.onAnalyse = func(context.Context) error { f.provider.dirty = "\x00"; return nil }
		},
	} {
		f := open(t)
		spoil(f)
		id := f.create(t)
		require.NoError(t, f.transcribe(t, t.Context(), id))
		got := f.find(t, id)
		require.Equal(t, call.Failed, got.Status, name)
		require.Equal(t, &call.Problem{Code: call.CodeInternal, Message: "The result of this call cannot be stored", Retryable: true}, got.Problem, name)
		require.Equal(t, 1, got.Lease.Failures, "%s: at once", name)
		require.Equal(t, int64(2), f.provider.transcribed.Load(), "%s: the two chunks, once", name)
		require.Equal(t, []string{"transcription.failed"}, pgtest.Column[string](t, f.db, `select type from outbox where key = $1 order by id desc limit 1`, id))
	}
}

func TestAFailureThatTheDatabaseRefusesFailsTheCall(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.provider.onTranscribe = func(context.Context) error { return fault.New(fault.Conflict, call.CodeRejected, "because\x00") }
	id := f.create(t)
	require.NoError(t, f.transcribe(t, t.Context(), id))
	require.Equal(t, call.CodeInternal, f.find(t, id).Problem.Code)
}

// A renewal that waited for the transcript would take as long as reading it.
func TestARenewalLoadsNoTranscript(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	c, err := f.calls.Change(t.Context(), id, func(c *call.Call) ([]event.Event, error) { return c.Begin(c.Lease.Epoch, worker, ttl, noon()) })
	require.NoError(t, err)
	require.NoError(t, f.db.InTx(t.Context(), func(ctx context.Context) error {
		if _, err := f.db.Conn(ctx).Exec(ctx, `lock table transcripts in access exclusive mode`); err != nil {
			return err
		}
		return f.processor.Leases.Renew(t.Context(), id, c.Lease.Epoch, ttl)
	}))
	require.ErrorIs(t, f.processor.Leases.Renew(t.Context(), id, c.Lease.Epoch-1, ttl), lease.ErrSuperseded)
	require.ErrorIs(t, f.processor.Leases.Renew(t.Context(), event.NewID(), 1, ttl), lease.ErrSuperseded)
}
