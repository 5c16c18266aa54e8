package delivery_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

func TestASuccessIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	r := start(t)
	require.Equal(t, 1, r.seed("https://pabbly.example/hook", "s3cret"))
	id := r.deliver(nil)
	require.NotNil(t, r.find(id).Body, "everybody that it names is known")
	d := r.attempt(id)
	require.Equal(t, delivery.Delivered, d.Status)
	require.Equal(t, r.clock.Now(), *d.DeliveredAt)
	require.Nil(t, d.NextAttemptAt)
	require.Nil(t, d.Holder)
	require.Nil(t, d.Left)
	require.Equal(t, []string{"webhook.delivered"}, r.events())
	require.Equal(t, "said so", d.Log[0].Excerpt)

	r.once()
	require.Len(t, r.receiver.got, 1, "it is delivered")
	require.Equal(t, "https://pabbly.example/hook", r.receiver.got[0].URL)
	require.Equal(t, []string{"s3cret"}, r.receiver.got[0].Secrets)
	require.Equal(t, d.EventID, r.receiver.got[0].EventID)
}

// The receiver is down for the whole schedule, on a virtual clock. Alone, the delivery is not delayed by the breaker.
func TestTheScheduleToItsEnd(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	r.answers(status(http.StatusInternalServerError))
	id := r.deliver(nil)
	for i, wait := range []time.Duration{
		5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 24 * time.Hour,
	} {
		d := r.attempt(id)
		require.Equal(t, delivery.Retrying, d.Status)
		require.Equal(t, "status_500", *d.Reason)
		require.Equal(t, i+1, d.Requests())
		left := r.waits(id, wait)
		r.pass(left - 2*time.Second)
		r.once()
		require.Len(t, r.receiver.got, i+1, "not before it is due")
	}
	d := r.attempt(id)
	require.Equal(t, delivery.Dead, d.Status)
	require.Equal(t, "status_500", *d.Reason)
	require.Len(t, d.Log, 11)
	require.Equal(t, []string{"webhook.dead"}, r.events())
	for _, m := range r.receiver.got {
		require.Equal(t, r.receiver.got[0], m, "the same bytes and event id on every attempt")
	}
}

func TestTheNextRoundIsWhenADeliveryIsDue(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	r.answers(status(http.StatusBadGateway))
	id := r.deliver(nil)
	r.attempt(id)
	r.pass(4500 * time.Millisecond)
	wait, err := r.Once(t.Context())
	require.NoError(t, err)
	require.InDelta(t, (500 * time.Millisecond).Seconds(), wait.Seconds(), 0.4)
	require.Len(t, r.receiver.got, 1)
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	r.answers(func(ctx context.Context) delivery.Answer {
		a := status(http.StatusTooManyRequests)(ctx)
		a.RetryAfter = 9 * time.Second
		return a
	})
	id := r.deliver(nil)
	r.attempt(id)
	r.waits(id, 9*time.Second)
}

func TestADeliveryWhoseEventCannotBeReadIsDead(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	r.exec(`update deliveries set data = '[]', body = null`)
	d := r.attempt(id)
	require.Equal(t, delivery.Dead, d.Status)
	require.Equal(t, "payload_invalid", *d.Reason)
	require.Nil(t, d.NextAttemptAt)
	require.Equal(t, []string{"webhook.dead"}, r.events())
	require.Empty(t, r.receiver.got)
}

func TestADuplicateEventMakesOneDelivery(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	e := r.event(nil)
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), e))
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), e))
	require.Len(t, query[string](r, `select id::text from deliveries`), 1)
	r.exec(`delete from deliveries`) // with its partition, after the retention
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), e))
	require.Empty(t, query[string](r, `select id::text from deliveries`))
}

// A compacted topic is read anew, from its begin.
func TestAnEventThatIsTooOldMakesNoDelivery(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	e := r.event(nil)
	r.clock.Advance(delivery.MaxAge + time.Second)
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), e))
	require.Empty(t, query[string](r, `select id::text from deliveries`))
}

func TestAnEventThatIsRolledBackMakesNoDelivery(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	err := r.db.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, r.OnTranscriptionCompleted(ctx, r.event(nil)))
		return errors.New("the inbox could not be written")
	})
	require.Error(t, err)
	require.Empty(t, query[string](r, `select id::text from deliveries`))
	require.Empty(t, query[string](r, `select event_id::text from seen`))
}

// sending starts the next request, and returns once the receiver has it. finish makes the receiver answer, and waits until the worker has
// recorded that, unless it was killed.
func (r *rig) sending() (finish func(answer func(context.Context) delivery.Answer)) {
	r.t.Helper()
	begun, answer := make(chan struct{}), make(chan func(context.Context) delivery.Answer)
	r.answers(func(ctx context.Context) delivery.Answer {
		close(begun)
		return (<-answer)(ctx)
	})
	require.NoError(r.t, r.Claim(r.t.Context()))
	<-begun
	return func(with func(context.Context) delivery.Answer) {
		answer <- with
		r.Wait()
	}
}

// Kill -9 before the receiver's answer, and after it.
func TestACrashBetweenSendAndRecordSendsTheSameAgain(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id, other := r.deliver(nil), ""
	finish := r.sending()
	second := r.another()
	second.Workers = 1
	_, err := second.Once(t.Context())
	require.NoError(t, err)
	require.Equal(t, "test/1", *r.find(id).Holder, "a lease that has not expired is not revoked")
	other = r.deliver(nil)

	r.expire(id)
	require.LessOrEqual(t, *r.find(id).NextAttemptIn, time.Duration(0))
	r.answers(status(http.StatusInternalServerError))
	for range 2 {
		_, err := second.Once(t.Context())
		require.NoError(t, err)
	}
	d := r.find(id)
	require.Equal(t, delivery.Retrying, d.Status)
	require.Len(t, r.receiver.got, 3)
	require.Equal(t, r.receiver.got[0], r.receiver.got[1], "the same event id, the same bytes, and before younger ones")
	require.Equal(t, r.find(other).EventID, r.receiver.got[2].EventID)

	finish(status(http.StatusOK)) // the first process was only stopped: its late result is refused
	require.NoError(t, r.Flush(t.Context()))
	after := r.find(id)
	d.NextAttemptIn, after.NextAttemptIn = nil, nil // these change with time
	require.Equal(t, d, after)
	require.Empty(t, r.events())
}

// another returns the dispatcher of another process.
func (r *rig) another() *delivery.Dispatcher {
	d := r.Dispatcher
	return &delivery.Dispatcher{
		Queue: d.Queue, Endpoints: d.Endpoints, Renderer: d.Renderer, Sender: d.Sender, Observer: d.Observer, Log: d.Log, InTx: d.InTx,
		Attempt: d.Attempt, Disabled: d.Disabled, Jitter: d.Jitter, Holder: "test/2", Workers: d.Workers,
	}
}

func TestALateResultDoesNotEndTheLeaseOfTheNextWorker(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	first := r.sending()
	r.expire(id)
	second := &rig{t: t, db: r.db, Service: r.Service, Dispatcher: r.another(), receiver: r.receiver}
	last := second.sending()
	first(status(http.StatusOK))
	require.NoError(t, r.Flush(t.Context()))
	d := r.find(id)
	require.Equal(t, delivery.Pending, d.Status, "the old worker's result is refused")
	require.Equal(t, "test/2", *d.Holder)
	require.Positive(t, *d.Left)
	last(status(http.StatusOK))
	require.NoError(t, second.Flush(t.Context()))
	require.Equal(t, delivery.Delivered, r.find(id).Status)
	require.Equal(t, []string{"webhook.delivered"}, r.events())
}

func TestTwoProcessesSendOnce(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	for range 20 {
		r.deliver(nil)
	}
	var both sync.WaitGroup
	for _, d := range []*delivery.Dispatcher{r.Dispatcher, r.another()} {
		both.Go(func() {
			for range 20 {
				_, err := d.Once(context.WithoutCancel(t.Context()))
				assert.NoError(t, err)
			}
		})
	}
	both.Wait()
	require.Len(t, r.receiver.got, 20)
	require.Equal(t, []int{20}, query[int](r, `select count(*)::int from deliveries where status = 'delivered'`))
}

func TestAProcessThatStopsHandsTheDeliveryBack(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	ctx, stop := context.WithCancel(t.Context())
	r.answers(func(ctx context.Context) delivery.Answer { stop(); return timeout(ctx) })
	_, err := r.Once(ctx)
	require.NoError(t, err)
	d := r.find(id)
	require.Equal(t, delivery.Pending, d.Status)
	require.Nil(t, d.Holder)
	require.Nil(t, d.Left)
	require.LessOrEqual(t, *d.NextAttemptIn, time.Duration(0), "it is due at once")
	require.Empty(t, d.Log)
	require.Zero(t, d.Requests())
}

func TestAnAnswerThatCameBeforeTheStopIsRecorded(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	ctx, stop := context.WithCancel(t.Context())
	r.answers(func(ctx context.Context) delivery.Answer { stop(); return status(http.StatusOK)(ctx) })
	_, err := r.Once(ctx)
	require.NoError(t, err)
	require.Equal(t, delivery.Delivered, r.find(id).Status)
}

// Without its result the delivery would be sent again after each lease. The results of others are not lost with it.
func TestAnAnswerThatTheDatabaseRefusesIsRecordedWithoutItsText(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]delivery.Status{http.StatusOK: delivery.Delivered, http.StatusInternalServerError: delivery.Retrying} {
		r := start(t)
		r.seed("https://pabbly.example/hook", "s3cret")
		id, other := r.deliver(nil), r.deliver(nil)
		var n atomic.Int32
		r.answers(func(ctx context.Context) delivery.Answer {
			if n.Add(1) == 1 {
				return delivery.Answer{StatusCode: &code, Excerpt: "a\x00b", TraceID: "\x00"}
			}
			return delivery.Answer{StatusCode: &code, Excerpt: "fine"}
		})
		r.once()
		require.Len(t, r.receiver.got, 2)
		require.ElementsMatch(t, []string{"", "fine"}, query[string](r, `select answer from attempts`))
		for _, id := range []string{id, other} {
			d := r.find(id)
			require.Equal(t, want, d.Status)
			require.Len(t, d.Log, 1)
			require.Equal(t, code, *d.Log[0].StatusCode)
			require.Nil(t, d.Holder)
		}
	}
}

// A worker that cannot go on, such as after a panic, does not send the same again at once.
func TestAnAttemptThatFailsWaits(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	r.Attempt = func(context.Context, delivery.Delivery, func(context.Context) (bool, error)) error {
		return errors.New("a panic")
	}
	d := r.attempt(id)
	require.Equal(t, delivery.Pending, d.Status)
	require.Nil(t, d.Holder)
	r.waits(id, 20*time.Second)
}

// The process that deletes an endpoint may end before it ends what waits for it, and a delivery may be created at that moment.
func TestNothingWaitsForADeletedEndpoint(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	require.NoError(t, r.Discard(t.Context()))
	require.Equal(t, "pending", r.shown(id))
	r.exec(`update endpoints set enabled = false, disabled_reason = 'deleted', deleted_at = now()`)
	require.Equal(t, "held endpoint_deleted", r.shown(id))
	require.NoError(t, r.Discard(t.Context()))
	require.Equal(t, "dead endpoint_deleted", r.shown(id))
	require.Contains(t, r.events(), "webhook.dead")
}
