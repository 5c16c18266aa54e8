package delivery_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

func TestGoneDisablesTheEndpointAndHoldsTheRest(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	r.answers(status(http.StatusGone))
	d := r.attempt(id)
	other := r.deliver(nil)
	require.Equal(t, 410, *d.Log[0].StatusCode)
	require.Equal(t, "held endpoint_gone", r.shown(id))
	require.Equal(t, "held endpoint_gone", r.shown(other), "also when the event came after that")
	require.Equal(t, []string{"webhook.endpoint_disabled"}, r.events())
	r.pass(time.Hour)
	r.once()
	require.Len(t, r.receiver.got, 1)

	require.Equal(t, 0, r.seed("https://pabbly.example/hook", "s3cret"), "the same address is still gone")
	r.answers(status(http.StatusOK))
	require.Equal(t, 1, r.seed("https://pabbly.example/moved", "s3cret"))
	r.once()
	require.Equal(t, "delivered", r.shown(id))
	require.Equal(t, "delivered", r.shown(other))
	require.Equal(t, "https://pabbly.example/moved", r.receiver.got[2].URL)
}

// An admin enabled the endpoint, at another URL, while a request was at the former one.
func TestA410OfAnEarlierConfigurationDoesNotDisable(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	finish := r.sending()
	r.seed("https://pabbly.example/moved", "s3cret")
	finish(status(http.StatusGone))
	require.NoError(t, r.Flush(t.Context()))
	require.True(t, r.endpoint().Enabled)
	require.Equal(t, "retrying status_410", r.shown(id))
}

func TestPausedIsKeptAndReplayedInOrderOfAge(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	r.Workers = 1
	var ids []string
	r.answers(status(http.StatusBadGateway))
	ids = append(ids, r.deliver(nil))
	for range 4 { // it is due in minutes
		r.attempt(ids[0])
	}
	waiting := r.find(ids[0]).Version()
	r.pause()
	require.Greater(t, r.find(ids[0]).Version(), waiting, "a new ETag: it is held")
	for range 4 {
		r.clock.Advance(time.Second)
		ids = append(ids, r.deliver(nil))
	}
	for _, id := range ids {
		require.Equal(t, "held endpoint_paused", r.shown(id))
	}
	r.pass(time.Hour)
	r.once()
	sent := len(r.receiver.got)
	require.Equal(t, 4, sent, "nothing is sent to a paused endpoint")
	held := delivery.Held
	list, err := r.List(t.Context(), delivery.Filter{Status: &held, Request: page.All()})
	require.NoError(t, err)
	require.Len(t, list.Items, 5)

	r.enable()
	r.answers(status(http.StatusOK))
	for range ids {
		r.once()
	}
	for i, m := range r.receiver.got[sent:] {
		require.Equal(t, r.find(ids[i]).EventID, m.EventID)
	}
	require.Len(t, r.receiver.got, sent+5)
}

func TestADeletedEndpointLeavesNothingWaiting(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	made, err := r.seeding.Create(t.Context(), endpoint.CreateRequest{URL: "https://x.example"})
	require.NoError(t, err)
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), r.event(nil)))
	_, err = r.seeding.Delete(t.Context(), endpoint.IDRequest{ID: made.ID})
	require.NoError(t, err)
	require.Equal(t, []string{"dead endpoint_deleted"}, query[string](r, `select status || ' ' || reason from deliveries where endpoint_id = $1`, made.ID))
	require.Equal(t, []string{"webhook.dead"}, r.events())
	r.once()
	require.Len(t, r.receiver.got, 1)
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), r.event(nil)))
	require.Equal(t, []int{1}, query[int](r, `select count(*)::int from deliveries where endpoint_id = $1`, made.ID))
}

func TestAnUnsetURLHoldsAndASetOneResumes(t *testing.T) {
	t.Parallel()
	r := start(t)
	require.Equal(t, 0, r.seed("", ""), "nothing is configured")
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), r.event(nil)))
	require.Empty(t, query[string](r, `select id::text from deliveries`))

	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	require.Equal(t, 0, r.seed("", ""))
	require.Equal(t, "held endpoint_not_configured", r.shown(id))
	require.Equal(t, 1, r.seed("https://pabbly.example/hook", "s3cret"))
	require.Equal(t, delivery.Delivered, r.attempt(id).Status)
	require.Len(t, query[string](r, `select id::text from endpoints`), 1)
}

// Five failures open the breaker. From then on one delivery at a time is the probe, and the others wait.
func TestTheBreaker(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	r.answers(timeout)
	for range 20 {
		r.deliver(nil)
	}
	sent := func() int { return len(r.receiver.got) }
	for range 4 {
		r.once()
	}
	opened := sent()
	require.GreaterOrEqual(t, opened, 5)
	require.LessOrEqual(t, opened, 8, "the requests that had begun")
	require.NotNil(t, r.endpoint().ProbeIn)
	for i, wait := range []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second, 30 * time.Second} {
		require.LessOrEqual(t, *r.endpoint().ProbeIn, wait)
		r.pass(30 * time.Second)
		wake, err := r.Once(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, wake, time.Second)
		r.once()
		require.Equal(t, opened+i+1, sent(), "one probe")
	}
	require.NotNil(t, r.endpoint().FailedSince)

	r.answers(status(http.StatusOK))
	r.pass(30 * time.Second)
	r.once()
	require.Nil(t, r.endpoint().ProbeIn, "the probe succeeded")
	require.Nil(t, r.endpoint().FailedSince)
	for range 20 {
		r.once()
	}
	require.Equal(t, []int{20}, query[int](r, `select count(*)::int from deliveries where status = 'delivered'`))
}

// A process dies with the probe: another is allowed later.
func TestAProbeThatIsLost(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	r.deliver(nil)
	r.change(func(e *endpoint.Endpoint) {
		e.Failures, e.FailedSince, e.ProbeIn = 7, new(-time.Hour), new(time.Duration(0))
	})
	finish := r.sending()
	defer finish(timeout)
	r.deliver(nil)
	r.answers(status(http.StatusOK))
	second := r.another()
	_, err := second.Once(t.Context())
	require.NoError(t, err)
	require.Len(t, r.receiver.got, 1, "one probe at a time, of all processes")
	r.pass(26 * time.Second)
	_, err = second.Once(t.Context())
	require.NoError(t, err)
	require.Len(t, r.receiver.got, 2)
}

func TestFiveDaysOfNothingButFailuresDisable(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	r.answers(timeout)
	first := r.deliver(nil)
	r.attempt(first)
	r.pass(4*24*time.Hour + 23*time.Hour)
	r.once()
	require.True(t, r.endpoint().Enabled)
	id := r.deliver(nil)
	r.pass(time.Hour)
	r.once()
	require.False(t, r.endpoint().Enabled)
	require.Equal(t, "held endpoint_failing", r.shown(id))
	require.Equal(t, []string{"webhook.endpoint_disabled"}, r.events())
	r.answers(status(http.StatusOK))
	r.enable()
	r.once()
	require.Equal(t, "delivered", r.shown(id))
	require.Zero(t, r.endpoint().Failures)
}

func TestASuccessBetweenFailuresStartsTheFiveDaysAnew(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	for day := range 12 {
		r.answers(timeout)
		if day%4 == 3 {
			r.answers(status(http.StatusOK))
		}
		r.deliver(nil)
		r.once()
		r.pass(24 * time.Hour)
	}
	require.True(t, r.endpoint().Enabled)
}

func TestTheRateLimit(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	r.Workers = 100
	r.change(func(e *endpoint.Endpoint) { e.RateLimit = new(5) })
	for range 40 {
		r.deliver(nil)
	}
	real := clock.Stopwatch()
	for second := 1; second <= 4; second++ {
		for range 10 {
			r.once()
			r.pass(100 * time.Millisecond)
		}
		require.LessOrEqual(t, len(r.receiver.got), int(5*(float64(second)+real().Seconds()))+6, "five a second, after a burst of a second")
		require.GreaterOrEqual(t, len(r.receiver.got), 5*second)
	}
}

func TestASlowEndpointLeavesWorkersToOthers(t *testing.T) {
	t.Parallel()
	r := start(t) // 4 workers
	r.seed("https://slow.example/hook", "s3cret")
	r.deliver(nil)
	r.deliver(nil)
	r.deliver(nil)
	release := make(chan struct{})
	begun := make(chan struct{}, 3)
	r.answers(func(ctx context.Context) delivery.Answer {
		begun <- struct{}{}
		<-release
		return status(http.StatusOK)(ctx)
	})
	require.NoError(t, r.Claim(t.Context()))
	<-begun
	<-begun
	require.Equal(t, []int{2}, query[int](r, `select count(*)::int from deliveries where lease_holder is not null`), "half of the workers are free")
	_, err := r.seeding.Create(t.Context(), endpoint.CreateRequest{URL: "https://fast.example"})
	require.NoError(t, err)
	r.answers(status(http.StatusOK))
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), r.event(nil)))
	require.NoError(t, r.Claim(t.Context()))
	require.Eventually(t, func() bool { return len(r.receiver.requests()) == 3 }, time.Minute, time.Millisecond)
	require.Equal(t, "https://fast.example", r.receiver.requests()[2].URL)
	close(release)
	r.Wait()
	require.NoError(t, r.Flush(t.Context()))
	r.once()
	require.Equal(t, []int{5}, query[int](r, `select count(*)::int from deliveries where status = 'delivered'`))
}
