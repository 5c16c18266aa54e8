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
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

func noon() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

func fresh(now time.Time) (call.Call, []event.Event) {
	return call.New(event.NewID(), event.NewID(), call.Details{CallType: "default"}, nil, call.Recording{Key: "2026/11/x", ContentType: "audio/ogg"}, now)
}

var errDown = fault.New(fault.Unavailable, call.CodeUnavailable, "down")

// Whatever happens in whatever order, the status takes only legal steps, epochs and versions never go back, each event tells
// the state it came from, and a call that has not ended always has something that will go on with it.
func TestWhateverHappensTheStatusTakesLegalSteps(t *testing.T) {
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
			before := c
			c.Next = nil
			clk.Advance(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
			epoch := max(1, c.Lease.Epoch-int64(rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "late by")))
			now := clk.Now()
			var events []event.Event
			var err error
			action := rapid.SampledFrom([]string{"begin", "renew", "measured", "heard", "complete", "fail", "reject", "hand back", "reclaim", "retry"}).Draw(t, "action")
			switch action {
			case "begin":
				events, err = c.Begin(epoch, now)
			case "renew":
				err = c.Renew(epoch, now)
			case "measured":
				err = c.Measured(epoch, 3, now)
			case "heard":
				err = c.Heard(epoch, call.Transcript{Text: "hello"}, "m", now)
			case "complete":
				events, err = c.Complete(epoch, call.Result{Outcome: call.OutcomeOK}, now)
			case "fail":
				events, err = c.Fail(epoch, errDown, waits, now)
			case "reject":
				events, err = c.Fail(epoch, fault.New(fault.Conflict, call.CodeRejected, "no"), waits, now)
			case "hand back":
				err = c.HandBack(epoch, now)
			case "reclaim":
				events = c.Reclaim(now)
			case "retry":
				events, err = c.Retry(nil, nil, now)
			}
			if err != nil {
				before.Next = nil
				require.Equal(t, before, c, "%s was refused and changed the call", action)
				continue
			}
			if epoch != before.Lease.Epoch {
				require.Contains(t, []string{"reclaim", "retry"}, action, "an old epoch was accepted")
			}
			require.Contains(t, legal[before.Status], c.Status, "%s → %s by %s", before.Status, c.Status, action)
			require.GreaterOrEqual(t, c.Lease.Epoch, before.Lease.Epoch)
			require.GreaterOrEqual(t, c.Version, before.Version)
			for _, e := range events {
				var payload events.Call
				require.NoError(t, json.Unmarshal(e.Data, &payload))
				require.Equal(t, string(c.Status), payload.Status)
				require.Greater(t, payload.Version, before.Version)
			}
			require.Equal(t, c.Status == call.Failed, c.Problem != nil)
			require.Equal(t, c.Status == call.Completed, c.Outcome != nil)
			require.Equal(t, c.Ended(), c.Lease.Until == nil, "an open call has a lease or a job that is waited for")
			require.Equal(t, before.Lease.Held && !c.Lease.Held && !c.Ended(), c.Next != nil && before.Lease.Held, "who gives up a lease asks for a job")
		}
	})
}

func begun(t *testing.T, clk *clock.Manual) (c call.Call, epoch int64) {
	t.Helper()
	c, _ = fresh(clk.Now())
	_, err := c.Begin(c.Lease.Epoch, clk.Now())
	require.NoError(t, err)
	return c, c.Lease.Epoch
}

func TestFailuresAreTriedAgainBySchedule(t *testing.T) {
	t.Parallel()
	waits := []time.Duration{2 * time.Second, 10 * time.Second, time.Minute}
	clk := clock.At(noon())
	c, epoch := begun(t, clk)
	for i, wait := range waits {
		_, err := c.Fail(epoch, errDown, waits, clk.Now())
		require.NoError(t, err)
		require.Equal(t, call.Transcribing, c.Status, "a call that waits is still transcribing")
		require.Equal(t, clk.Now().Add(wait), *c.Next, "wait %d", i)
		require.Greater(t, c.Lease.Epoch, epoch)
		clk.Advance(wait)
		_, err = c.Begin(c.Lease.Epoch, clk.Now())
		require.NoError(t, err)
		epoch = c.Lease.Epoch
	}
	c.Next = nil
	events, err := c.Fail(epoch, errDown, waits, clk.Now())
	require.NoError(t, err)
	require.Equal(t, call.Failed, c.Status)
	require.Nil(t, c.Next)
	require.Equal(t, &call.Problem{Code: call.CodeUnavailable, Message: "down", Retryable: true}, c.Problem)
	require.Equal(t, "transcription.failed", events[0].Type)
	require.Equal(t, 4, c.Attempts)
}

func TestAProviderMayAskForMoreTime(t *testing.T) {
	t.Parallel()
	for asked, want := range map[time.Duration]time.Duration{time.Second: 2 * time.Second, time.Minute: time.Minute, 10 * time.Hour: 30 * time.Minute} {
		clk := clock.At(noon())
		c, epoch := begun(t, clk)
		_, err := c.Fail(epoch, fault.New(fault.Limited, call.CodeUnavailable, "busy").After(asked), []time.Duration{2 * time.Second}, clk.Now())
		require.NoError(t, err)
		require.Equal(t, want, c.Next.Sub(clk.Now()), "asked for %s", asked)
		clk.Advance(want)
		require.Nil(t, c.Reclaim(clk.Now()), "the job has time to begin")
		require.Equal(t, epoch+1, c.Lease.Epoch)
	}
}

func TestWhatDoesNotPassFailsAtOnce(t *testing.T) {
	t.Parallel()
	for code, retryable := range map[string]bool{
		call.CodeUnreadable: false, call.CodeRejected: false, call.CodeTooLong: false, call.CodeMissing: false, call.CodeQuota: true, call.CodeInvalid: true,
	} {
		clk := clock.At(noon())
		c, epoch := begun(t, clk)
		_, err := c.Fail(epoch, fault.New(fault.Conflict, code, "no"), []time.Duration{time.Second}, clk.Now())
		require.NoError(t, err)
		require.Equal(t, call.Failed, c.Status, code)
		require.Equal(t, retryable, c.Problem.Retryable, code)
	}
}

func TestAJobThatNobodyBeginsIsAskedForAgainEverMoreRarely(t *testing.T) {
	t.Parallel()
	clk := clock.At(noon())
	c, _ := fresh(clk.Now())
	var asked []time.Duration
	for range 600 {
		clk.Advance(time.Second)
		c.Next = nil
		require.Empty(t, c.Reclaim(clk.Now()))
		if c.Next != nil {
			asked = append(asked, clk.Now().Sub(noon()))
		}
	}
	require.Equal(t, []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute}, asked)
	_, err := c.Begin(1, clk.Now())
	require.NoError(t, err, "the first job is still good")
}

func TestAWorkerThatDiesEachTimeEndsTheCall(t *testing.T) {
	t.Parallel()
	clk := clock.At(noon())
	c, _ := fresh(clk.Now())
	var types []string
	for !c.Ended() {
		_, err := c.Begin(c.Lease.Epoch, clk.Now())
		require.NoError(t, err)
		clk.Advance(call.LeaseTime)
		for _, e := range c.Reclaim(clk.Now()) {
			types = append(types, e.Type)
		}
	}
	require.Equal(t, 25, c.Attempts)
	require.Equal(t, "interrupted", c.Problem.Code)
	require.Equal(t, []string{"transcription.failed"}, types)
}

func TestWhatIsDeletedSaysNothing(t *testing.T) {
	t.Parallel()
	clk := clock.At(noon())
	c, epoch := begun(t, clk)
	_, err := c.Complete(epoch, call.Result{Outcome: call.OutcomeOK, Insights: call.Insights{Summary: new("secret words"), ActionItems: []string{"secret"}}}, clk.Now())
	require.NoError(t, err)
	version := c.Version
	events := c.Deleted(clk.Now())
	require.NotContains(t, string(events[0].Data), "secret")
	require.Greater(t, c.Version, version)
}

func TestRefusedWorkIsStale(t *testing.T) {
	t.Parallel()
	clk := clock.At(noon())
	c, epoch := begun(t, clk)
	clk.Advance(call.LeaseTime)
	c.Reclaim(clk.Now())
	_, err := c.Complete(epoch, call.Result{}, clk.Now())
	require.ErrorIs(t, err, call.ErrStale)
	_, err = c.Begin(epoch-1, clk.Now())
	require.ErrorIs(t, err, call.ErrStale)
}
