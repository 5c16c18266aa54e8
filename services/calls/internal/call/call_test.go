package call_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

func noon() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

const (
	worker = "worker 1"
	ttl    = 15 * time.Second
)

// expire makes a lease expire.
func expire(c *call.Call) { c.Lease.Left = new(time.Duration(0)) }

func fresh(now time.Time) (call.Call, []event.Event) {
	return call.New(event.NewID(), event.NewID(), call.Details{CallType: "default", CallTag: "connected", RecordedAt: now}, nil, call.Recording{Key: "2026/11/x", ContentType: "audio/ogg"}, now)
}

var errDown = fault.New(fault.Unavailable, call.CodeUnavailable, "down")

// In any sequence of operations, all status transitions are legal, versions never decrease, a refused operation changes
// nothing, each event has the state of the call, and a call that has not ended has a worker or a job.
func TestAllStatusTransitionsAreLegal(t *testing.T) {
	t.Parallel()
	legal := map[call.Status][]call.Status{
		call.Pending:      {call.Pending, call.Transcribing},
		call.Transcribing: {call.Transcribing, call.Completed, call.Failed},
		call.Completed:    {call.Completed, call.Pending},
		call.Failed:       {call.Failed, call.Pending},
	}
	waits := []time.Duration{time.Second, time.Minute}
	rapid.Check(t, func(t *rapid.T) {
		clk := clock.At(noon())
		c, _ := fresh(clk.Now())
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			c.Lease.Job = nil // as loaded from the store
			before := c
			clk.Advance(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
			if c.Lease.Holder != nil && rapid.Bool().Draw(t, "silent") {
				expire(&c)
				expire(&before)
			}
			epoch := max(1, c.Lease.Epoch-int64(rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "late by")))
			now := clk.Now()
			var published []event.Event
			var err error
			action := rapid.SampledFrom([]string{"begin", "duration", "transcript", "complete", "fail", "reject", "hand back", "reclaim", "requeue", "retry"}).Draw(t, "action")
			switch action {
			case "begin":
				published, err = c.Begin(epoch, worker, ttl, now)
			case "duration":
				err = c.SetDuration(epoch, 3, now)
			case "transcript":
				err = c.SetTranscript(epoch, call.Transcript{Text: "hello"}, 1, "m", now)
			case "complete":
				published, err = c.Complete(epoch, call.Result{Outcome: call.OutcomeOK}, now)
			case "fail":
				published, err = c.Fail(epoch, errDown, waits, 0, now)
			case "reject":
				published, err = c.Fail(epoch, fault.New(fault.Conflict, call.CodeRejected, "no"), waits, 0, now)
			case "hand back":
				err = c.HandBack(epoch, now)
			case "reclaim":
				published, err = c.Reclaim(epoch, now)
			case "requeue":
				err = c.Requeue(epoch)
			case "retry":
				published, err = c.Retry(nil, nil, now)
			}
			if err != nil {
				require.Equal(t, before, c, "%s was refused and changed the call", action)
				continue
			}
			if epoch != before.Lease.Epoch {
				require.Equal(t, "retry", action, "an old epoch was accepted")
			}
			require.Contains(t, legal[before.Status], c.Status, "%s → %s by %s", before.Status, c.Status, action)
			require.GreaterOrEqual(t, c.Lease.Epoch, before.Lease.Epoch)
			require.GreaterOrEqual(t, c.Version, before.Version)
			if c.Version == before.Version {
				shown := c
				shown.Lease = before.Lease
				require.Equal(t, before, shown, "%s changed what an answer shows and not the version", action)
				require.Equal(t, before.Lease.Attempts, c.Lease.Attempts)
			}
			for _, e := range published {
				var payload events.Call
				require.NoError(t, json.Unmarshal(e.Data, &payload))
				require.Equal(t, string(c.Status), payload.Status)
				require.Greater(t, payload.Version, before.Version)
				require.NotNil(t, payload.RecordedAt)
			}
			require.Equal(t, c.Status == call.Failed, c.Problem != nil)
			require.Equal(t, c.Status == call.Completed, c.Outcome != nil)
			if c.Ended() {
				require.Nil(t, c.Lease.Holder)
				require.Nil(t, c.Lease.Left)
				require.Nil(t, c.Lease.Job)
			} else {
				require.NotEqual(t, c.Lease.Holder != nil, c.Lease.Job != nil, "a call has either a worker or a job")
			}
		}
	})
}

func begun(t *testing.T, clk *clock.Manual) (c call.Call, epoch int64) {
	t.Helper()
	c, _ = fresh(clk.Now())
	_, err := c.Begin(c.Lease.Epoch, worker, ttl, clk.Now())
	require.NoError(t, err)
	return c, c.Lease.Epoch
}

func TestFailuresAreTriedAgainBySchedule(t *testing.T) {
	t.Parallel()
	waits := []time.Duration{2 * time.Second, 10 * time.Second, time.Minute}
	clk := clock.At(noon())
	c, epoch := begun(t, clk)
	for i, wait := range waits {
		_, err := c.Fail(epoch, errDown, waits, 0, clk.Now())
		require.NoError(t, err)
		require.Equal(t, call.Transcribing, c.Status, "a call that waits is still transcribing")
		require.Equal(t, &lease.Job{In: wait}, c.Lease.Job, "wait %d", i)
		require.Greater(t, c.Lease.Epoch, epoch)
		clk.Advance(wait)
		_, err = c.Begin(c.Lease.Epoch, worker, ttl, clk.Now())
		require.NoError(t, err)
		epoch = c.Lease.Epoch
	}
	events, err := c.Fail(epoch, errDown, waits, 0, clk.Now())
	require.NoError(t, err)
	require.Equal(t, call.Failed, c.Status)
	require.Nil(t, c.Lease.Job)
	require.Equal(t, &call.Problem{Code: call.CodeUnavailable, Message: "down", Retryable: true}, c.Problem)
	require.Equal(t, "transcription.failed", events[0].Type)
	require.Equal(t, 4, c.Lease.Attempts)
}

func TestAProviderMayRequestMoreTime(t *testing.T) {
	t.Parallel()
	for requested, want := range map[time.Duration]time.Duration{time.Second: 2 * time.Second, time.Minute: time.Minute, 10 * time.Hour: 30 * time.Minute} {
		clk := clock.At(noon())
		c, epoch := begun(t, clk)
		_, err := c.Fail(epoch, fault.New(fault.Unavailable, call.CodeUnavailable, "busy").After(requested), []time.Duration{2 * time.Second}, 0, clk.Now())
		require.NoError(t, err)
		require.Equal(t, want, c.Lease.Job.In, "requested %s", requested)
		require.Greater(t, c.Lease.Epoch, epoch)
		waiting := c
		events, err := c.Reclaim(epoch, clk.Now())
		require.Empty(t, events)
		require.ErrorIs(t, err, lease.ErrSuperseded, "the work that failed is not the work that waits")
		require.Equal(t, waiting, c)
	}
}

// A recording was once lost when a provider limited its requests for longer than all attempts took.
func TestAProviderThatTakesNoRequestsCostsNoAttempt(t *testing.T) {
	t.Parallel()
	waits := []time.Duration{time.Second}
	clk := clock.At(noon())
	c, epoch := begun(t, clk)
	for range 100 {
		_, err := c.Fail(epoch, fault.New(fault.Limited, call.CodeQuota, "used up").After(5*time.Minute), waits, 0.5, clk.Now())
		require.NoError(t, err)
		require.Equal(t, &lease.Job{In: 5*time.Minute + 30*time.Second}, c.Lease.Job, "with jitter")
		require.Equal(t, call.Transcribing, c.Status)
		require.Equal(t, call.StepWaiting, *c.Step)
		clk.Advance(c.Lease.Job.In)
		_, err = c.Begin(c.Lease.Epoch, worker, ttl, clk.Now())
		require.NoError(t, err)
		epoch = c.Lease.Epoch
	}
	require.Equal(t, 1, c.Lease.Attempts)
	require.Zero(t, c.Lease.Failures)
	clk.Advance(24 * time.Hour)
	_, err := c.Fail(epoch, fault.New(fault.Limited, call.CodeQuota, "used up"), waits, 0, clk.Now())
	require.NoError(t, err)
	require.Equal(t, &call.Problem{Code: call.CodeQuota, Message: "used up", Retryable: true}, c.Problem, "not for ever")
}

func TestAnswersThatCannotBeUsedArePaidForThreeTimesAtMost(t *testing.T) {
	t.Parallel()
	clk := clock.At(noon())
	c, epoch := begun(t, clk)
	failures := 0
	for ; !c.Ended(); failures++ {
		_, err := c.Fail(epoch, fault.New(fault.Unavailable, call.CodeInvalid, "no JSON"), []time.Duration{1, 1, 1, 1, 1, 1, 1}, 0, clk.Now())
		require.NoError(t, err)
		if !c.Ended() {
			_, err = c.Begin(c.Lease.Epoch, worker, ttl, clk.Now())
			require.NoError(t, err)
			epoch = c.Lease.Epoch
		}
	}
	require.Equal(t, 3, failures)
}

func TestACallCanBeCancelledUntilItEnds(t *testing.T) {
	t.Parallel()
	clk := clock.At(noon())
	pending, _ := fresh(clk.Now())
	working, epoch := begun(t, clk)
	for _, c := range []*call.Call{&pending, &working} {
		events := c.Cancel(clk.Now())
		require.Equal(t, call.Failed, c.Status)
		require.Equal(t, "cancelled", c.Problem.Code)
		require.True(t, c.Problem.Retryable)
		require.Equal(t, "transcription.failed", events[0].Type)
		require.Nil(t, c.Lease.Job)
		before := *c
		require.Empty(t, c.Cancel(clk.Now()))
		require.Equal(t, before, *c, "it has ended")
	}
	_, err := working.Complete(epoch, call.Result{}, clk.Now())
	require.ErrorIs(t, err, lease.ErrSuperseded, "the worker's result is too late")
}

func TestPermanentFailuresEndACallAtOnce(t *testing.T) {
	t.Parallel()
	for code, retryable := range map[string]bool{
		call.CodeUnreadable: false, call.CodeRejected: false, call.CodeTooLong: false, call.CodeMissing: false, call.CodeQuota: true, call.CodeInvalid: true,
	} {
		clk := clock.At(noon())
		c, epoch := begun(t, clk)
		_, err := c.Fail(epoch, fault.New(fault.Conflict, code, "no"), []time.Duration{time.Second}, 0, clk.Now())
		require.NoError(t, err)
		require.Equal(t, call.Failed, c.Status, code)
		require.Equal(t, retryable, c.Problem.Retryable, code)
	}
}

func TestAnAbandonedJobIsReclaimedOnce(t *testing.T) {
	t.Parallel()
	clk := clock.At(noon())
	c, _ := fresh(clk.Now())
	old, version := c.Lease.Epoch, c.Version
	events, err := c.Reclaim(old, clk.Now())
	require.NoError(t, err)
	require.Empty(t, events)
	require.Equal(t, version, c.Version, "nothing that an answer shows has changed")
	require.Equal(t, &lease.Job{First: true}, c.Lease.Job)
	_, err = c.Reclaim(old, clk.Now())
	require.ErrorIs(t, err, lease.ErrSuperseded)
	_, err = c.Begin(old, worker, ttl, clk.Now())
	require.ErrorIs(t, err, lease.ErrSuperseded, "the first job does nothing should it still begin")
	_, err = c.Begin(c.Lease.Epoch, worker, ttl, clk.Now())
	require.NoError(t, err)
	_, err = c.Reclaim(c.Lease.Epoch, clk.Now())
	require.ErrorIs(t, err, lease.ErrSuperseded, "a worker holds the lease")
}

func TestAWorkerThatDiesEachTimeEndsTheCall(t *testing.T) {
	t.Parallel()
	clk := clock.At(noon())
	c, _ := fresh(clk.Now())
	var types []string
	for !c.Ended() {
		_, err := c.Begin(c.Lease.Epoch, worker, ttl, clk.Now())
		require.NoError(t, err)
		expire(&c)
		events, err := c.Reclaim(c.Lease.Epoch, clk.Now())
		require.NoError(t, err)
		for _, e := range events {
			types = append(types, e.Type)
		}
	}
	require.Equal(t, 25, c.Lease.Attempts)
	require.Nil(t, c.Lease.Job)
	require.Equal(t, "interrupted", c.Problem.Code)
	require.Equal(t, []string{"transcription.failed"}, types)
}

func TestTheEventOfADeletionHoldsNothingThatWasSaid(t *testing.T) {
	t.Parallel()
	clk := clock.At(noon())
	c, epoch := begun(t, clk)
	_, err := c.Complete(epoch, call.Result{Outcome: call.OutcomeOK, Insights: call.Insights{Summary: new("secret words"), ActionItems: []string{"secret"}}}, clk.Now())
	require.NoError(t, err)
	version := c.Version
	events := c.Delete(clk.Now())
	require.NotContains(t, string(events[0].Data), "secret")
	require.Greater(t, c.Version, version)
}

func TestWorkOfAnOldEpochIsSuperseded(t *testing.T) {
	t.Parallel()
	clk := clock.At(noon())
	c, epoch := begun(t, clk)
	expire(&c)
	_, err := c.Reclaim(epoch, clk.Now())
	require.NoError(t, err)
	_, err = c.Complete(epoch, call.Result{}, clk.Now())
	require.ErrorIs(t, err, lease.ErrSuperseded)
	_, err = c.Begin(epoch-1, worker, ttl, clk.Now())
	require.ErrorIs(t, err, lease.ErrSuperseded)
}
