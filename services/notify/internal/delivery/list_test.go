package delivery_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

func TestTheListIsFilteredAndPaged(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	var ids []string
	for range 5 {
		ids = append(ids, r.deliver(nil))
		r.clock.Advance(time.Minute)
	}
	r.exec(`update deliveries set next_attempt_at = now() + interval '1 hour' where id <> $1`, ids[2])
	r.once()
	list := func(f delivery.Filter) (out []string, next string) {
		p, err := r.List(t.Context(), f)
		require.NoError(t, err)
		for _, d := range p.Items {
			out = append(out, d.ID)
		}
		return out, p.Next
	}
	first, next := list(delivery.Filter{Request: page.Request{Limit: 2}})
	require.Equal(t, []string{ids[4], ids[3]}, first)
	second, next := list(delivery.Filter{Request: page.Request{Limit: 2, Cursor: next}})
	require.Equal(t, []string{ids[2], ids[1]}, second)
	last, next := list(delivery.Filter{Request: page.Request{Limit: 2, Cursor: next}})
	require.Equal(t, []string{ids[0]}, last)
	require.Empty(t, next)

	done, completed, other := delivery.Delivered, "transcription.completed", "followup.scheduled"
	from, to := r.clock.Now().Add(-4*time.Minute), r.clock.Now().Add(-2*time.Minute)
	for name, tt := range map[string]struct {
		filter delivery.Filter
		want   []string
	}{
		"status": {delivery.Filter{Status: &done, Request: page.All()}, []string{ids[2]}},
		"event":  {delivery.Filter{Event: &completed, Request: page.Request{Limit: 50, Skip: 3}}, []string{ids[1], ids[0]}},
		"other":  {delivery.Filter{Event: &other, Request: page.All()}, nil},
		"time":   {delivery.Filter{From: &from, To: &to, Request: page.All()}, []string{ids[2], ids[1]}},
	} {
		got, _ := list(tt.filter)
		require.Equal(t, tt.want, got, name)
	}
	_, err := r.List(t.Context(), delivery.Filter{Request: page.Request{Limit: 50, Cursor: "rubbish"}})
	require.True(t, fault.Is(err, fault.Invalid))
	_, err = r.Get(t.Context(), delivery.IDRequest{ID: event.NewID()})
	require.True(t, fault.Is(err, fault.NotFound))
	detail, err := r.Get(t.Context(), delivery.IDRequest{ID: ids[2]})
	require.NoError(t, err)
	require.Len(t, detail.Log, 1)
	require.JSONEq(t, string(r.receiver.got[0].Body), string(detail.Payload))
}

func TestAFollowUpIsDeliveredToo(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	e := events.FollowUpScheduled.New(r.clock.Now(), events.FollowUp{FollowUpID: event.NewID(), CallID: event.NewID(), AgentID: agentID, DueDate: new(r.clock.Now())})
	received, err := events.FollowUpScheduled.Decode(e)
	require.NoError(t, err)
	require.NoError(t, r.OnFollowUp(t.Context(), received))
	ids := query[string](r, `select id::text from deliveries`)
	d := r.attempt(ids[0])
	require.Equal(t, delivery.Delivered, d.Status)
	require.Equal(t, received.Data.CallID, *d.CallID)
	require.Equal(t, "followup.scheduled", r.receiver.got[0].Event)
}
