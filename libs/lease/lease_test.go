package lease_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/lease"
)

const ttl = 10 * time.Second

// model is the expected state of a lease after any sequence of steps.
type model struct {
	lease  lease.Lease
	epochs map[int64]bool // of jobs that were requested
	worker int64          // epoch of the worker that holds the lease; 0 for none
	ended  bool
}

// check asserts the invariants after a step. before is the lease before the step.
func (m *model) check(t *rapid.T, before lease.Lease) {
	l := m.lease
	if l.Epoch < before.Epoch {
		t.Fatalf("the epoch decreased from %d to %d", before.Epoch, l.Epoch)
	}
	if (l.Holder == nil) != (l.Left == nil) {
		t.Fatalf("a holder without a remaining time, or a remaining time without a holder: %+v", l)
	}
	if l.Job != nil && l.Holder != nil {
		t.Fatalf("a job is requested while a worker holds the lease: %+v", l)
	}
	if (m.worker != 0) != (l.Holder != nil) {
		t.Fatalf("worker %d, lease %+v", m.worker, l)
	}
	if m.worker != 0 && l.Check(m.worker) != nil {
		t.Fatalf("the worker %d does not hold its lease %+v", m.worker, l)
	}
	if m.worker == 0 && !m.ended && l.Job == nil {
		t.Fatalf("work without a holder and without a requested job: %+v", l)
	}
	if l.Failures > l.Attempts {
		t.Fatalf("%d failures in %d attempts", l.Failures, l.Attempts)
	}
}

func TestOnlyTheNewestWorkerIsAccepted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{lease: lease.New(), epochs: map[int64]bool{}}
		m.epochs[m.lease.Epoch] = true
		// Any epoch used so far, and one that was not.
		epoch := func(t *rapid.T) int64 { return rapid.Int64Range(0, m.lease.Epoch+1).Draw(t, "epoch") }
		// do runs a step that only the worker or job with that epoch may take. ok says whether it may.
		do := func(t *rapid.T, ok bool, step func() error) bool {
			before := m.lease
			err := step()
			if !ok {
				if !errors.Is(err, lease.ErrSuperseded) {
					t.Fatalf("accepted although it is not current: %v", err)
				}
				require.Equal(t, before, m.lease, "a refused step changes nothing")
				return false
			}
			if err != nil {
				t.Fatalf("refused: %v", err)
			}
			return true
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) {},
			"begin": func(t *rapid.T) {
				e, before := epoch(t), m.lease
				if do(t, e == m.lease.Epoch && m.worker == 0, func() error { return m.lease.Begin(e, "w", ttl) }) {
					require.Greater(t, m.lease.Epoch, e, "a second job with the same epoch cannot begin")
					m.worker, m.ended, m.lease.Job = m.lease.Epoch, false, nil
					m.check(t, before)
				}
			},
			"end": func(t *rapid.T) {
				e, before := epoch(t), m.lease
				if do(t, e == m.worker && e != 0, func() error { return m.lease.End(e) }) {
					m.worker, m.ended = 0, true
					m.check(t, before)
				}
			},
			"fail": func(t *rapid.T) {
				e, again, before := epoch(t), rapid.Bool().Draw(t, "again"), m.lease
				if do(t, e == m.worker && e != 0, func() error { return m.lease.Fail(e, time.Second, again) }) {
					require.Equal(t, before.Failures+1, m.lease.Failures)
					m.worker, m.ended = 0, !again
					m.check(t, before)
				}
			},
			"hand back": func(t *rapid.T) {
				e, before := epoch(t), m.lease
				if do(t, e == m.worker && e != 0, func() error { return m.lease.HandBack(e) }) {
					require.True(t, m.lease.Job.First)
					m.worker = 0
					m.check(t, before)
				}
			},
			"defer": func(t *rapid.T) {
				e, before := epoch(t), m.lease
				if do(t, e == m.worker && e != 0, func() error { return m.lease.Defer(e, time.Minute) }) {
					require.Equal(t, &lease.Job{In: time.Minute}, m.lease.Job)
					m.worker = 0
					m.check(t, before)
				}
			},
			"requeue": func(t *rapid.T) {
				e, before := epoch(t), m.lease
				if do(t, e == m.lease.Epoch && m.worker == 0, func() error { return m.lease.Requeue(e) }) {
					require.Equal(t, &lease.Job{}, m.lease.Job)
					m.ended = false
					m.check(t, before)
				}
			},
			"time": func(t *rapid.T) {
				if m.lease.Left != nil {
					*m.lease.Left -= time.Duration(rapid.Int64Range(0, int64(2*ttl)).Draw(t, "passed"))
				}
			},
			"reclaim": func(t *rapid.T) {
				e, before := epoch(t), m.lease
				if do(t, e == m.lease.Epoch && (m.worker == 0 || *m.lease.Left <= 0), func() error { return m.lease.Reclaim(e) }) {
					require.Equal(t, &lease.Job{First: true}, m.lease.Job)
					require.ErrorIs(t, m.lease.Check(m.worker), lease.ErrSuperseded, "the worker that was too late")
					require.ErrorIs(t, m.lease.Reclaim(e), lease.ErrSuperseded, "once")
					m.worker, m.ended = 0, false
					m.check(t, before)
				}
			},
			"restart": func(t *rapid.T) {
				before := m.lease
				m.lease.Restart()
				require.Zero(t, m.lease.Attempts+m.lease.Failures)
				m.worker, m.ended = 0, false
				m.check(t, before)
			},
			"stop": func(t *rapid.T) {
				before := m.lease
				m.lease.Stop()
				require.Greater(t, m.lease.Epoch, before.Epoch, "jobs and workers are superseded")
				m.worker, m.ended = 0, true
				m.check(t, before)
			},
		})
	})
}

func TestTheZeroLeaseHasNoWork(t *testing.T) {
	t.Parallel()
	var l lease.Lease
	require.False(t, l.Expired())
	require.ErrorIs(t, l.Check(0), lease.ErrSuperseded)
	require.Nil(t, l.Job)
}

func TestAHeartbeatRenewsTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var beats atomic.Int64
		work, stop := lease.Heartbeat(t.Context(), clock.Stopwatch(), ttl, 3*time.Second, func(context.Context) error { beats.Add(1); return nil })
		time.Sleep(time.Minute - time.Second) // virtual time
		require.NoError(t, work.Err())
		require.Equal(t, int64(19), beats.Load())
		require.False(t, stop())
		require.ErrorIs(t, context.Cause(work), context.Canceled)
		time.Sleep(time.Minute)
		require.Equal(t, int64(19), beats.Load(), "none after the end")
	})
}

func TestAWorkerThatLostItsLeaseStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		work, stop := lease.Heartbeat(t.Context(), clock.Stopwatch(), ttl, 3*time.Second, func(context.Context) error { return lease.ErrSuperseded })
		<-work.Done()
		require.ErrorIs(t, context.Cause(work), lease.ErrSuperseded)
		require.True(t, stop())
	})
}

func TestAWorkerThatCannotRenewStopsBeforeItsLeaseEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := clock.Stopwatch()
		time.Sleep(time.Second) // the lease was taken meanwhile
		var n atomic.Int64
		work, stop := lease.Heartbeat(t.Context(), began, ttl, 3*time.Second, func(ctx context.Context) error {
			if n.Add(1) == 1 {
				return nil // 4 s after it began, so it has the lease until 14 s
			}
			<-ctx.Done() // the database hangs
			return ctx.Err()
		})
		<-work.Done()
		require.LessOrEqual(t, began(), 4*time.Second+ttl)
		require.True(t, stop())
	})
	synctest.Test(t, func(t *testing.T) {
		began := clock.Stopwatch()
		work, _ := lease.Heartbeat(t.Context(), began, ttl, 3*time.Second, func(context.Context) error { return errors.New("connection refused") })
		<-work.Done()
		require.Equal(t, ttl, began(), "not at the next renewal, which is later")
		require.ErrorIs(t, context.Cause(work), lease.ErrSuperseded)
	})
	synctest.Test(t, func(t *testing.T) {
		began := clock.Stopwatch()
		time.Sleep(ttl) // so long, that the lease is over before the first renewal
		work, _ := lease.Heartbeat(t.Context(), began, ttl, 3*time.Second, func(ctx context.Context) error { return ctx.Err() })
		<-work.Done()
		require.ErrorIs(t, context.Cause(work), lease.ErrSuperseded)
	})
}

func TestAWorkerThatStopsHasNotLostItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		work, stop := lease.Heartbeat(ctx, clock.Stopwatch(), ttl, 3*time.Second, func(context.Context) error { return nil })
		cancel()
		<-work.Done()
		require.False(t, stop())
	})
}

func TestDeferredWorkCountsNothing(t *testing.T) {
	t.Parallel()
	l := lease.New()
	require.NoError(t, l.Begin(l.Epoch, "w", time.Minute))
	epoch := l.Epoch
	require.NoError(t, l.Defer(epoch, time.Hour))
	require.Equal(t, &lease.Job{In: time.Hour}, l.Job)
	require.Nil(t, l.Holder)
	require.Zero(t, l.Attempts+l.Failures)
	require.ErrorIs(t, l.Defer(epoch, time.Hour), lease.ErrSuperseded)
}
