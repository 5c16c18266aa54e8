package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

func (s stores) list(f delivery.Filter) (ids []string) {
	s.t.Helper()
	for {
		p, err := s.deliveries.List(s.t.Context(), f)
		require.NoError(s.t, err)
		for _, d := range p.Items {
			ids = append(ids, d.ID)
		}
		require.Less(s.t, len(ids), 100, "the pages do not end")
		if f.Cursor = p.Next; f.Cursor == "" {
			return ids
		}
	}
}

func TestPagesWithEqualTimes(t *testing.T) {
	t.Parallel()
	s := open(t)
	var want []string
	for i := range 10 {
		d := s.create(func(d *delivery.Delivery) { d.CreatedAt = at(i / 5) }) // only two different times
		want = append([]string{d.ID}, want...)
	}
	for _, limit := range []int{1, 3, 5, 10, 11} {
		require.Equal(t, want, s.list(delivery.Filter{Request: page.Request{Limit: limit}}), "limit %d", limit)
	}
	p, err := s.deliveries.List(t.Context(), delivery.Filter{Request: page.Request{Limit: 3, Skip: 8}})
	require.NoError(t, err)
	require.Len(t, p.Items, 2)
	require.Empty(t, p.Next)
	_, err = s.deliveries.List(t.Context(), delivery.Filter{Request: page.Request{Limit: 3, Cursor: "rubbish"}})
	require.True(t, fault.Is(err, fault.Invalid))
}

func TestFilters(t *testing.T) {
	t.Parallel()
	s := open(t)
	other := newEndpoint(endpoint.API)
	require.NoError(t, s.endpoints.Create(t.Context(), other))
	first := s.create()
	second := s.create(func(d *delivery.Delivery) { d.CreatedAt, d.Status = at(10), delivery.Delivered })
	third := s.create(func(d *delivery.Delivery) { d.CreatedAt, d.Event, d.CallID = at(20), "followup.scheduled", nil })
	fourth := s.create(func(d *delivery.Delivery) { d.CreatedAt, d.EndpointID = at(30), other.ID })
	for name, tt := range map[string]struct {
		filter delivery.Filter
		want   []string
	}{
		"none":                      {delivery.Filter{}, []string{fourth.ID, third.ID, second.ID, first.ID}},
		"status":                    {delivery.Filter{Status: new(delivery.Delivered)}, []string{second.ID}},
		"event":                     {delivery.Filter{Event: new("transcription.completed")}, []string{fourth.ID, second.ID, first.ID}},
		"another event":             {delivery.Filter{Event: new("lead.imported")}, nil},
		"endpoint":                  {delivery.Filter{EndpointID: &other.ID}, []string{fourth.ID}},
		"call":                      {delivery.Filter{CallID: first.CallID}, []string{first.ID}},
		"from, inclusive":           {delivery.Filter{From: new(at(20))}, []string{fourth.ID, third.ID}},
		"to, exclusive":             {delivery.Filter{To: new(at(20))}, []string{second.ID, first.ID}},
		"from and to":               {delivery.Filter{From: new(at(10)), To: new(at(30))}, []string{third.ID, second.ID}},
		"several":                   {delivery.Filter{Status: new(delivery.Pending), Event: new("transcription.completed"), EndpointID: &s.endpointID}, []string{first.ID}},
		"of a status that none has": {delivery.Filter{Status: new(delivery.Dead)}, nil},
	} {
		tt.filter.Limit = 3
		require.Equal(t, tt.want, s.list(tt.filter), name)
	}
}

func TestAListReadsNoBody(t *testing.T) {
	t.Parallel()
	s := open(t)
	d := s.create()
	require.NoError(t, s.change(d.ID, func(d *delivery.Delivery) error {
		d.Body, d.Log = []byte("body"), []delivery.Attempt{{Number: 1, StartedAt: at(1)}}
		return nil
	}))
	p, err := s.deliveries.List(t.Context(), delivery.Filter{Request: page.All()})
	require.NoError(t, err)
	require.Len(t, p.Items, 1)
	require.Nil(t, p.Items[0].Data)
	require.Nil(t, p.Items[0].Body)
	require.Nil(t, p.Items[0].Trace)
	require.Nil(t, p.Items[0].Log)
	want := s.find(d.ID)
	require.NotEmpty(t, want.Body)
	require.NotEmpty(t, want.Data)
	require.Empty(t, cmp.Diff(want, p.Items[0], computed, cmpopts.IgnoreFields(delivery.Delivery{}, "Data", "Body", "Trace", "Log")), "everything else is there")
}

func TestTheBacklogIsCounted(t *testing.T) {
	t.Parallel()
	s := open(t)
	none, err := s.deliveries.ListBacklog(t.Context())
	require.NoError(t, err)
	require.Empty(t, none)
	s.create(func(d *delivery.Delivery) { d.CreatedAt = time.Now().Add(-time.Hour) })
	s.create(func(d *delivery.Delivery) { d.CreatedAt = time.Now() })
	s.create(func(d *delivery.Delivery) { d.Status = delivery.Delivered })
	backlog, err := s.deliveries.ListBacklog(t.Context())
	require.NoError(t, err)
	require.Len(t, backlog, 1)
	require.Equal(t, delivery.Pending, backlog[0].Status)
	require.Equal(t, int64(2), backlog[0].Count)
	require.InDelta(t, time.Hour.Seconds(), backlog[0].Oldest.Seconds(), 600)
}
