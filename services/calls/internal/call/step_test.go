package call_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// steps returns the steps of a call as "name part state requests".
func (f *fixture) steps(t *testing.T, id string) []string {
	t.Helper()
	return pgtest.Column[string](t, f.db, `select step || ' ' || part || ' ' || state || ' ' || requests from steps where call_id = $1 order by run, step desc, part`, id)
}

// Each part was once paid for again when a later one failed.
func TestAPartThatFailedDoesNotPayForThePartsBeforeIt(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	f.provider.onTranscribe = func(context.Context) error {
		if f.provider.transcribed.Load() == 2 {
			return errDown
		}
		return nil
	}
	require.NoError(t, f.transcribe(t, t.Context(), id))
	require.Equal(t, []string{"transcribe 0 answered 1", "transcribe 1 failed 1"}, f.steps(t, id))
	require.InDelta(t, 0.45, f.find(t, id).Progress, 0.001, "half of the parts")
	f.provider.onTranscribe = nil
	require.NoError(t, f.transcribe(t, t.Context(), id))
	c := f.find(t, id)
	require.Equal(t, call.Completed, c.Status)
	require.Equal(t, "part a\npart b", c.Transcript.Text)
	require.Equal(t, int64(3), f.provider.transcribed.Load())
	require.Equal(t, []string{"transcribe 0 answered 1", "transcribe 1 answered 2", "analyse 0 answered 1"}, f.steps(t, id))
	require.Zero(t, f.observer.repeated.Load(), "the provider had refused it")
	require.InDelta(t, 2*0.5+0.25, *c.CostUSD, 1e-9)
	require.Equal(t, []int{0}, pgtest.Column[int](t, f.db, `select count(answer)::int from steps where call_id = $1`, id), "the raw answers of a completed call are removed")
	require.Equal(t, []string{"c 1 0 100", "m 2 20 0"}, pgtest.Column[string](t, f.db, `select model || ' ' || requests || ' ' || audio_seconds || ' ' || input_tokens from usage_days order by model`))
	keys := 0
	f.provider.keys.Range(func(any, any) bool { keys++; return true })
	require.Equal(t, 3, keys, "a repeated request has the same key")
	require.Equal(t, []int{1}, pgtest.Column[int](t, f.db, `select count(*)::int from waveforms where call_id = $1`, id))
}

// A worker is killed at each moment of each step. What was answered is read, and at most the request in flight is sent again.
func TestAKillCostsAtMostOneRequest(t *testing.T) {
	t.Parallel()
	for at := 1; at <= 9; at++ {
		f := open(t)
		id := f.create(t)
		f.processor.RenewEvery = time.Hour
		killer := &killer{Steps: f.processor.Steps, at: at}
		f.processor.Steps = killer
		_ = f.transcribe(t, killer.context(t), id)
		f.processor.Steps = killer.Steps
		f.expire(t, id)
		require.NoError(t, f.processor.Reclaim(t.Context()))
		require.NoError(t, f.transcribe(t, t.Context(), id))
		require.Equal(t, call.Completed, f.find(t, id).Status, at)
		sent := f.provider.transcribed.Load() + f.provider.analysed.Load()
		require.LessOrEqual(t, sent, int64(4), "killed at %d", at)
		require.GreaterOrEqual(t, f.observer.repeated.Load(), sent-3, "killed at %d: each extra request is counted", at)
	}
}

// killer makes everything fail from the n-th call of Begin, Send or End on, as if the process were killed.
type killer struct {
	call.Steps
	n, at int
	die   context.CancelCauseFunc
}

func (k *killer) context(t *testing.T) context.Context {
	ctx, die := context.WithCancelCause(t.Context())
	k.die = die
	return ctx
}

var errKilled = fmt.Errorf("killed: %w", lease.ErrSuperseded) // so that nothing is written

func (k *killer) dead() bool {
	k.n++
	return k.n >= k.at
}

func (k *killer) Begin(ctx context.Context, s call.Step) ([]byte, bool, error) {
	if k.dead() {
		return nil, false, errKilled
	}
	answer, repeated, err := k.Steps.Begin(ctx, s)
	if k.dead() { // after the commit, before the request
		return nil, false, errKilled
	}
	return answer, repeated, err
}

func (k *killer) End(ctx context.Context, s call.Step, a call.Answer) error {
	if k.dead() {
		return errKilled
	}
	return k.Steps.End(ctx, s, a)
}

func (k *killer) Drop(context.Context, call.Step, call.StepState) error { return errKilled }

func TestALostAnswerIsCounted(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	f.provider.onTranscribe = func(context.Context) error {
		f.provider.onTranscribe = nil
		return fault.Wrap(call.ErrNoAnswer, fault.Timeout, call.CodeTimeout, "late")
	}
	require.NoError(t, f.transcribe(t, t.Context(), id))
	require.Equal(t, []string{"transcribe 0 requested 1"}, f.steps(t, id))
	require.NoError(t, f.transcribe(t, t.Context(), id))
	require.Equal(t, int64(1), f.observer.repeated.Load())
	require.Equal(t, call.Completed, f.find(t, id).Status)
}

// An answer is stored again when the database's response to the COMMIT was lost. It was billed twice then.
func TestAnAnswerThatIsStoredAgainIsBilledOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	f.processor.Steps = forgetful{f.processor.Steps}
	require.NoError(t, f.transcribe(t, t.Context(), id))
	c := f.find(t, id)
	require.Equal(t, call.Completed, c.Status)
	require.InDelta(t, 2*0.5+0.25, *c.CostUSD, 1e-9)
	require.Equal(t, []string{"c 1 0.25", "m 2 1"}, pgtest.Column[string](t, f.db, `select model || ' ' || requests || ' ' || cost_usd from usage_days order by model`))
}

// forgetful loses the first response of the database to each answer.
type forgetful struct{ call.Steps }

func (l forgetful) End(ctx context.Context, s call.Step, a call.Answer) error {
	if err := l.Steps.End(ctx, s, a); err != nil {
		return err
	}
	return l.Steps.End(ctx, s, a)
}

// Two workers have sent the same request, because the first one seemed to be dead. Both answers were paid for.
func TestEachOfTwoAnswersIsBilled(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	f.processor.RenewEvery = time.Hour
	f.provider.onTranscribe = func(context.Context) error {
		f.provider.onTranscribe = nil
		f.expire(t, id)
		return errors.Join(f.processor.Reclaim(t.Context()), f.transcribe(t, t.Context(), id))
	}
	require.NoError(t, f.transcribe(t, t.Context(), id))
	require.Equal(t, call.Completed, f.find(t, id).Status)
	require.Equal(t, []string{"c 1", "m 3"}, pgtest.Column[string](t, f.db, `select model || ' ' || requests from usage_days order by model`))
}

// A worker that has lost its lease asks before each request.
func TestNoRequestIsSentWithoutTheLease(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.processor.RenewEvery = time.Hour // so that nothing but the next request notices the loss
	id := f.create(t)
	f.provider.onTranscribe = func(ctx context.Context) error {
		_, err := f.calls.Change(ctx, id, func(c *call.Call) ([]event.Event, error) { return c.Cancel(noon()), nil })
		return err
	}
	require.NoError(t, f.transcribe(t, t.Context(), id))
	require.Equal(t, int64(1), f.provider.transcribed.Load(), "the second part was not requested")
	require.Equal(t, []string{"transcribe 0 answered 1"}, f.steps(t, id), "what was paid for is stored")
	require.Equal(t, "cancelled", f.find(t, id).Problem.Code)
}

func TestARetryOfACompletedCallIsAnotherRun(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	require.NoError(t, f.transcribe(t, t.Context(), id))
	_, err := f.calls.Change(t.Context(), id, func(c *call.Call) ([]event.Event, error) { return c.Retry(nil, nil, noon()) })
	require.NoError(t, err)
	require.NoError(t, f.transcribe(t, t.Context(), id))
	require.Equal(t, int64(4), f.provider.transcribed.Load())
	require.InDelta(t, 2*(2*0.5+0.25), *f.find(t, id).CostUSD, 1e-9, "both runs")
}

// What was paid for is not removed before there is something new.
func TestARetryKeepsTheTranscriptUntilThereIsANewOne(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	require.NoError(t, f.transcribe(t, t.Context(), id))
	former := f.find(t, id).Transcript
	require.NotEmpty(t, former.Text)
	retry := func() {
		t.Helper()
		_, err := f.calls.Change(t.Context(), id, func(c *call.Call) ([]event.Event, error) { return c.Retry(nil, nil, noon()) })
		require.NoError(t, err)
	}
	retry()
	require.Equal(t, former, f.find(t, id).Transcript, "while it waits")
	f.provider.onTranscribe = func(context.Context) error { return fault.New(fault.Conflict, call.CodeRejected, "no") }
	require.NoError(t, f.transcribe(t, t.Context(), id))
	c := f.find(t, id)
	require.Equal(t, call.Failed, c.Status)
	require.Equal(t, former, c.Transcript, "after a failure")

	sent := f.provider.transcribed.Load()
	f.provider.onTranscribe = nil
	retry()
	require.NoError(t, f.transcribe(t, t.Context(), id))
	require.Greater(t, f.provider.transcribed.Load(), sent, "it is transcribed anew, not taken from the run before")
	c = f.find(t, id)
	require.Equal(t, call.Completed, c.Status)
	require.False(t, c.Outdated)
	require.NotNil(t, c.Insights.Summary)
}

// Parts are sent concurrently, up to a limit, and joined in their order.
func TestPartsAreSentConcurrently(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.processor.Parallel = 2
	id := f.create(t)
	both := make(chan struct{}, 2)
	f.provider.onTranscribe = func(ctx context.Context) error {
		both <- struct{}{}
		for len(both) < 2 { // until the other one is here too
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	}
	require.NoError(t, f.transcribe(t, t.Context(), id))
	require.Equal(t, "part a\npart b", f.find(t, id).Transcript.Text)
}

func TestAPanicOfAPartEndsInTheWorker(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.provider.onTranscribe = func(context.Context) error { panic("in a part") }
	id := f.create(t)
	require.PanicsWithValue(t, "in a part", func() { _ = f.transcribe(t, t.Context(), id) })
}

func TestASpentBudgetStopsTranscriptionsBeforeMoneyIsSpent(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.processor.Budget.LimitUSD = 1
	first, second := f.create(t), f.create(t)
	require.NoError(t, f.transcribe(t, t.Context(), first))
	require.Equal(t, call.Completed, f.find(t, first).Status, "1.25 USD, of which nothing was spent before")
	sent := f.provider.transcribed.Load()
	require.NoError(t, f.transcribe(t, t.Context(), second))
	c := f.find(t, second)
	require.Equal(t, call.CodeBudget, c.Problem.Code)
	require.Contains(t, c.Problem.Message, "1.00 USD")
	require.True(t, c.Problem.Retryable)
	require.Equal(t, sent, f.provider.transcribed.Load())
	f.exec(t, `update usage_days set day = day - interval '40 days'`)
	_, err := f.calls.Change(t.Context(), second, func(c *call.Call) ([]event.Event, error) { return c.Retry(nil, nil, noon()) })
	require.NoError(t, err)
	require.NoError(t, f.transcribe(t, t.Context(), second))
	require.Equal(t, call.Completed, f.find(t, second).Status, "another month")
}

func TestNothingIsDecodedForAProviderThatTakesNoRequests(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	f.provider.stopped = fault.New(fault.Limited, call.CodeUnavailable, "busy").After(time.Minute)
	f.bucket.err = fault.New(fault.NotFound, "audio_not_found", "not read in this test")
	require.NoError(t, f.transcribe(t, t.Context(), id))
	c := f.find(t, id)
	require.Equal(t, call.StepWaiting, *c.Step)
	require.Zero(t, c.Lease.Failures)
}
