package delivery_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

func (r *rig) statuses() []string {
	return query[string](r, `select status || ' ' || count(*) from deliveries where lease_holder is null group by status order by 1`)
}

// quick is a rig with n deliveries that are due to an endpoint that has answered quickly.
func quick(t *testing.T, n int) *rig {
	t.Helper()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	r.backlog(n)
	r.Quick(r.endpoint().ID)
	return r
}

func TestAQuickEndpointGetsManyDeliveriesAtOnce(t *testing.T) {
	t.Parallel()
	r := quick(t, 100)
	r.once()
	require.Equal(t, []string{"delivered 32", "pending 68"}, r.statuses(), "of two workers")
}

// The others of its batch are due at once, for the breaker to decide.
func TestAfterAFailureTheRestIsHandedBack(t *testing.T) {
	t.Parallel()
	r := quick(t, 32)
	var n atomic.Int32
	r.answers(func(ctx context.Context) delivery.Answer {
		if n.Add(1) == 5 {
			return status(http.StatusBadRequest)(ctx)
		}
		return status(http.StatusOK)(ctx)
	})
	r.once()
	requests := int(n.Load())
	require.Less(t, requests, 32)
	require.GreaterOrEqual(t, requests, 16+1, "the other worker goes on")
	require.Equal(t, []int{1}, query[int](r, `select count(*)::int from deliveries where status = 'retrying'`))
	require.Equal(t, []int{32 - requests}, query[int](r, `select count(*)::int from deliveries where status = 'pending' and lease_holder is null and next_attempt_at <= now()`))
	r.answers(status(http.StatusOK))
	r.once()
	require.LessOrEqual(t, int(n.Load()), requests+4, "it has to show again that it is quick")
	require.Zero(t, r.missing())
	require.Zero(t, query[int](r, `select count(*)::int from deliveries where attempts <> (select count(*) from attempts a where a.delivery_id = id)`)[0], "one that was handed back was not begun")
}

func TestAProcessThatStopsBeginsNoMore(t *testing.T) {
	t.Parallel()
	r := quick(t, 32)
	ctx, stop := context.WithCancel(t.Context())
	r.answers(func(context.Context) delivery.Answer { stop(); return status(http.StatusOK)(ctx) })
	_, err := r.Once(ctx)
	require.NoError(t, err)
	require.LessOrEqual(t, len(r.receiver.requests()), 2)
	require.Equal(t, []int{0}, query[int](r, `select count(*)::int from deliveries where lease_holder is not null`))
	require.Equal(t, []int{len(r.receiver.requests())}, query[int](r, `select count(*)::int from deliveries where status = 'delivered'`))
}

// A request takes up to 15 s, and the lease 20.
func TestNoRequestBeginsLateInALease(t *testing.T) {
	t.Parallel()
	r := quick(t, 3)
	claimed, err := r.ChangeDue(t.Context(), map[string]int{r.endpoint().ID: 3}, func(d *delivery.Delivery) error { return d.Begin(d.Epoch, "test/1", 20*time.Second) })
	require.NoError(t, err)
	r.Late(t.Context(), 2*time.Second, r.endpoint(), claimed...)
	require.NoError(t, r.Flush(t.Context()))
	require.Equal(t, []string{"delivered 1", "pending 2"}, r.statuses(), "the first has not waited for others")
}

// gated is a queue that records nothing until its gate is open.
type gated struct {
	delivery.Queue
	gate chan struct{}
}

func (g gated) ChangeAll(ctx context.Context, ids []string, fn func(*delivery.Delivery) (bool, []event.Event, error)) error {
	select {
	case <-g.gate:
		return g.Queue.ChangeAll(ctx, ids, fn)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sending does not wait for recording, up to the number of results that a process may lose.
func TestDeliveriesAreSentWhileResultsAreRecorded(t *testing.T) {
	t.Parallel()
	const all = 600
	r := quick(t, all)
	gate := make(chan struct{})
	r.Queue = gated{r.Queue, gate}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	sent := func() int { return len(r.receiver.requests()) }
	require.Eventually(t, func() bool { return sent() > 4*16 && r.Full() }, time.Minute, time.Millisecond)
	require.Less(t, sent(), all, "the recorder has 100, the channel 128")
	require.Equal(t, []int{0}, query[int](r, `select count(*)::int from deliveries where status = 'delivered'`))
	close(gate)
	require.Eventually(t, func() bool {
		return query[int](r, `select count(*)::int from deliveries where status = 'delivered'`)[0] == all
	}, time.Minute, 10*time.Millisecond)
	stop()
	require.NoError(t, <-ended)
	require.Equal(t, all, sent(), "each once")
}

// What cannot be recorded while the process stops is sent again after its lease.
func TestAProcessStopsWhenItCannotRecord(t *testing.T) {
	t.Parallel()
	r := quick(t, 40)
	r.Queue = gated{r.Queue, nil}
	ctx, stop := context.WithCancel(t.Context())
	r.answers(func(ctx context.Context) delivery.Answer { stop(); return status(http.StatusOK)(ctx) })
	require.Error(t, r.Run(ctx))
	require.Equal(t, []int{0}, query[int](r, `select count(*)::int from deliveries where status = 'delivered'`))
	require.Zero(t, r.missing())
}
