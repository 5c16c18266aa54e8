package delivery_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
	"github.com/convoflow/convoflow/services/notify/internal/store"
)

func TestADeliveryIsSentAgain(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	_, err := r.Redeliver(t.Context(), delivery.IDRequest{ID: id})
	require.Equal(t, "delivery_not_ended", fault.Of(err).Code)
	r.attempt(id)
	made, err := r.Redeliver(t.Context(), delivery.IDRequest{ID: id})
	require.NoError(t, err)
	require.Equal(t, 1, made.Count)
	again := query[string](r, `select id::text from deliveries where replay_id = $1`, *made.ReplayID)[0]
	require.Equal(t, id, *r.find(again).ReplayOf)
	require.Equal(t, delivery.Delivered, r.attempt(again).Status)
	require.Len(t, r.receiver.got, 2)
	require.Equal(t, r.receiver.got[0], r.receiver.got[1], "the same event id and bytes")

	_, err = r.Redeliver(t.Context(), delivery.IDRequest{ID: event.NewID()})
	require.Equal(t, "delivery_not_found", fault.Of(err).Code)
	r.exec(`update deliveries set data = '{}', body = null where id = $1`, again) // as an erasure does
	_, err = r.Redeliver(t.Context(), delivery.IDRequest{ID: again})
	require.Equal(t, "delivery_erased", fault.Of(err).Code)
}

func TestAReplay(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.Workers = 1
	r.seed("https://pabbly.example/hook", "s3cret")
	var ids []string
	for range 6 {
		ids = append(ids, r.deliver(nil))
		r.clock.Advance(time.Minute)
	}
	r.exec(`update deliveries set status = 'dead', reason = 'timeout', next_attempt_at = null where id = any($1)`, ids[1:5])
	r.exec(`update deliveries set data = '{}' where id = $1`, ids[4])
	dead, from := delivery.Dead, r.find(ids[1]).CreatedAt.Add(time.Second)
	filter := delivery.Replay{Status: &dead, From: &from}
	count := func(x delivery.Replay) int {
		x.DryRun = true
		made, err := r.Replay(t.Context(), x)
		require.NoError(t, err)
		require.Nil(t, made.ReplayID)
		return made.Count
	}
	require.Equal(t, 2, count(filter), "not the first, which is older, and not the last, which was erased")
	require.Equal(t, 3, count(delivery.Replay{}))
	require.Equal(t, 0, count(delivery.Replay{EndpointID: new(event.NewID())}))
	require.Len(t, query[string](r, `select id::text from deliveries`), 6)

	r.exec(`update deliveries set status = 'delivered', next_attempt_at = null where status = 'pending'`)
	made, err := r.Replay(t.Context(), filter)
	require.NoError(t, err)
	require.Equal(t, 2, made.Count)
	require.Equal(t, 0, count(filter), "they are being delivered again")
	r.once()
	r.once()
	require.Equal(t, []string{r.find(ids[2]).EventID, r.find(ids[3]).EventID}, []string{r.receiver.got[0].EventID, r.receiver.got[1].EventID}, "the oldest first")
	require.Equal(t, 0, count(filter), "the newest of the event is delivered")
	require.Zero(t, r.missing())
}

func TestAReplayIsCanceled(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	for range 5 {
		r.deliver(nil)
	}
	for range 3 {
		r.once()
	}
	made, err := r.Replay(t.Context(), delivery.Replay{})
	require.NoError(t, err)
	require.Equal(t, 5, made.Count)
	r.change(func(e *endpoint.Endpoint) { e.RateLimit = new(1) })
	r.once() // two: a burst
	canceled, err := r.CancelReplay(t.Context(), delivery.IDRequest{ID: *made.ReplayID})
	require.NoError(t, err)
	require.Equal(t, 3, canceled.Count)
	r.once()
	require.Len(t, r.receiver.got, 7)
	require.Equal(t, []string{"dead canceled", "delivered"}, query[string](r, `select distinct concat_ws(' ', status, reason) from deliveries where replay_id = $1 order by 1`, *made.ReplayID))
	canceled, err = r.CancelReplay(t.Context(), delivery.IDRequest{ID: *made.ReplayID})
	require.NoError(t, err)
	require.Zero(t, canceled.Count)
	_, err = r.CancelReplay(t.Context(), delivery.IDRequest{ID: event.NewID()})
	require.Equal(t, "replay_not_found", fault.Of(err).Code)
}

func TestAReplayThatIsTooLarge(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	r.backlog(20_001)
	pgtest.Fill(t, r.db, `update deliveries set status = 'dead', reason = 'timeout'`)
	for _, dry := range []bool{true, false} {
		_, err := r.Replay(t.Context(), delivery.Replay{DryRun: dry})
		require.Equal(t, "replay_too_large", fault.Of(err).Code)
	}
	made, err := r.Replay(t.Context(), delivery.Replay{Event: new("lead.imported")})
	require.NoError(t, err)
	require.Equal(t, delivery.Replayed{}, made)
}

// missing counts the events without a delivery.
func (r *rig) missing() int64 {
	r.t.Helper()
	n, err := store.Deliveries(r.db, nil, telemetry.Nop()).ListMissing(r.t.Context())
	require.NoError(r.t, err)
	return n
}
