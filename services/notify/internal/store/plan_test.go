package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
	"github.com/convoflow/convoflow/services/notify/internal/store"
)

// filled are stores with a month of deliveries, of which a few thousand wait and a few hundred are dead.
func filled(t *testing.T, n int) stores {
	t.Helper()
	s := open(t)
	paused, busy := newEndpoint(endpoint.API), newEndpoint(endpoint.API)
	paused.Enabled, paused.DisabledReason = false, new(endpoint.Paused)
	require.NoError(t, s.endpoints.Create(t.Context(), paused))
	require.NoError(t, s.endpoints.Create(t.Context(), busy))
	require.NoError(t, store.NewPartitions(s.db, 30*24*time.Hour).Upkeep(t.Context()))
	pgtest.Fill(t, s.db, fmt.Sprintf(`
		insert into deliveries (id, endpoint_id, event, event_id, event_time, call_id, agent_id, client_id, lead_id, data, body, status, attempts, failures,
			next_attempt_at, lease_epoch, trace, created_at, updated_at, delivered_at)
		select delivery_id(at), e, case when n %% 5 = 0 then 'followup.scheduled' when n %% 5000 = 1 then 'transcription.failed' else 'transcription.completed' end, delivery_id(at), at, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),
			'{"a": 1}', '{"a":1}', status, 1, 0, case when status = 'pending' then at end, 1, '{}', at, at, null
		from (select n, now() - interval '14 days' + n * interval '28 days' / %d as at,
			case when n %% 3 = 0 then '%s'::uuid else '%s'::uuid end as e,
			case when n %% 100 = 0 then 'pending' when n %% 400 = 7 then 'dead' else 'delivered' end as status from generate_series(1, %d) as n) as made`,
		n, paused.ID, busy.ID, n),
		`insert into seen select event_id, endpoint_id, id from deliveries`,
		`insert into attempts select id, 1, created_at, 20, 200, null, 'ok', '' from deliveries`,
		`analyze deliveries`, `analyze attempts`, `analyze seen`)
	s.endpointID = busy.ID
	return s
}

// scanned returns how many rows of deliveries, attempts and seen do reads by sequential scans.
func (s stores) scanned(do func(ctx context.Context) error) (rows int64) {
	s.t.Helper()
	for _, n := range pgtest.Read(s.t.Context(), s.t, s.db, do).Scanned("deliveries*", "attempts*", "seen") {
		rows += n
	}
	return rows
}

func TestAMonthOfDeliveriesIsNeverReadAsAWhole(t *testing.T) {
	t.Parallel()
	const n = 40_000
	s := filled(t, n)
	require.EqualValues(t, n, s.scanned(func(ctx context.Context) error {
		_, err := s.db.Conn(ctx).Exec(ctx, `select count(data) from deliveries`)
		return err
	}), "the test sees one")
	one := pgtest.Column[string](t, s.db, `select id::text from deliveries where status = 'delivered' limit 1`)[0]
	d := s.find(one)
	lists := map[string]delivery.Filter{
		"all": {}, "pending": {Status: new(delivery.Pending)}, "retrying": {Status: new(delivery.Retrying)}, "held": {Status: new(delivery.Held)}, "dead": {Status: new(delivery.Dead)},
		"delivered": {Status: new(delivery.Delivered)}, "event": {Event: new("followup.scheduled")}, "rare event": {Event: new("transcription.failed")}, "no event": {Event: new("lead.undecided")},
		"endpoint": {EndpointID: &s.endpointID}, "no endpoint": {EndpointID: new(event.NewID())}, "call": {CallID: d.CallID}, "replay": {ReplayID: new(event.NewID())},
		"from": {From: new(d.CreatedAt)}, "to": {To: new(d.CreatedAt)}, "dead of an endpoint": {Status: new(delivery.Dead), EndpointID: &s.endpointID},
	}
	for name, f := range lists {
		f.Limit = 50
		for range 2 { // and the next page
			require.Zero(t, s.scanned(func(ctx context.Context) error {
				p, err := s.deliveries.List(ctx, f)
				f.Cursor = p.Next
				return err
			}), name)
		}
	}
	works := map[string]func(ctx context.Context) error{
		"what waits": func(ctx context.Context) error { _, err := s.deliveries.ListWaiting(ctx, 32); return err },
		"claim": func(ctx context.Context) error {
			claimed, err := s.deliveries.ChangeDue(ctx, map[string]int{s.endpointID: 32}, func(d *delivery.Delivery) error { return d.Begin(d.Epoch, "worker", ttl) })
			require.Len(t, claimed, 32)
			return err
		},
		"record": func(ctx context.Context) error {
			return s.deliveries.ChangeAll(ctx, []string{one}, func(d *delivery.Delivery) (bool, []event.Event, error) {
				d.Log = []delivery.Attempt{{Number: 2, StartedAt: at(1)}}
				return true, nil, nil
			})
		},
		"find":      func(ctx context.Context) error { _, err := s.deliveries.Find(ctx, one); return err },
		"create":    func(ctx context.Context) error { return s.deliveries.Create(ctx, s.new()) },
		"backlog":   func(ctx context.Context) error { _, err := s.deliveries.ListBacklog(ctx); return err },
		"reconcile": func(ctx context.Context) error { _, err := s.deliveries.ListMissing(ctx); return err },
		"discard": func(ctx context.Context) error {
			_, err := s.deliveries.ChangeEach(ctx, delivery.Selection{Deleted: true}, nil)
			return err
		},
		"no cancel": func(ctx context.Context) error {
			_, err := s.deliveries.ChangeEach(ctx, delivery.Selection{ReplayID: event.NewID()}, nil)
			return err
		},
		"resume": func(ctx context.Context) error { return s.deliveries.Resume(ctx, s.endpointID) },
		"count dead": func(ctx context.Context) error {
			_, err := s.deliveries.CountReplay(ctx, delivery.Replay{Status: new(delivery.Dead), EndpointID: &s.endpointID}, 100)
			return err
		},
		"replay dead": func(ctx context.Context) error {
			_, err := s.deliveries.Replay(ctx, delivery.Replay{Status: new(delivery.Dead)}, event.NewID(), 100)
			return err
		},
		"erase": func(ctx context.Context) error {
			return store.Erasures(s.db, nil).Remove(ctx, events.KindClient, *d.About.ClientID)
		},
	}
	for name, do := range works {
		require.Zero(t, s.scanned(do), name)
	}
}

func TestEveryEventHasADelivery(t *testing.T) {
	t.Parallel()
	s := open(t)
	missing := func() int64 {
		n, err := s.deliveries.ListMissing(t.Context())
		require.NoError(t, err)
		return n
	}
	first, second := s.create(), s.create()
	s.create(func(d *delivery.Delivery) { d.Status = delivery.Delivered })
	s.begin(second.ID)
	require.Zero(t, missing())
	_, err := s.db.Pool().Exec(t.Context(), `update deliveries set next_attempt_at = null where id = $1`, first.ID)
	require.NoError(t, err)
	require.EqualValues(t, 1, missing(), "nobody will send it")
	_, err = s.db.Pool().Exec(t.Context(), `delete from deliveries where id = $1`, second.ID)
	require.NoError(t, err)
	require.EqualValues(t, 2, missing())
}

func TestPartitionsAreAddedAndDropped(t *testing.T) {
	t.Parallel()
	s := open(t)
	ends := func() []string {
		return pgtest.Column[string](t, s.db, `select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'deliveries'::regclass order by 1`)
	}
	partitions := store.NewPartitions(s.db, 30*24*time.Hour)
	for range 2 {
		require.NoError(t, partitions.Upkeep(t.Context()))
	}
	added := ends()
	require.GreaterOrEqual(t, len(added), 2+4, "the first, the default, and those of four weeks")
	require.Contains(t, added, "deliveries_first")
	d := s.create()
	weeks := pgtest.Column[string](t, s.db, `select tableoid::regclass::text from deliveries union select count(*)::text from deliveries_default`)
	require.ElementsMatch(t, []string{"deliveries_first", "0"}, weeks)
	s.begin(d.ID)
	require.NoError(t, s.deliveries.ChangeAll(t.Context(), []string{d.ID}, func(d *delivery.Delivery) (bool, []event.Event, error) {
		d.Log = []delivery.Attempt{{Number: 1, StartedAt: at(1)}}
		return true, nil, d.Fail(d.Epoch, time.Hour, true)
	}))

	old := store.NewPartitions(s.db, -30*24*time.Hour) // in a month
	require.NoError(t, old.Upkeep(t.Context()))
	require.Contains(t, ends(), "deliveries_first", "a delivery waits")
	require.Len(t, s.find(d.ID).Log, 1)
	require.NotContains(t, ends(), added[0])
	require.NoError(t, s.change(d.ID, func(d *delivery.Delivery) error { d.Status = delivery.Dead; d.Stop(); return nil }))
	require.NoError(t, old.Upkeep(t.Context()))
	require.NotContains(t, ends(), "deliveries_first")
	require.Zero(t, s.count(`select count(*) from attempts`))
	require.NoError(t, partitions.Upkeep(t.Context()), "there is always one to continue from")
	_, err := s.db.Pool().Exec(t.Context(), `insert into seen select first_delivery_id(now() - n * interval '1 day' - interval '1 minute'), gen_random_uuid(), gen_random_uuid() from generate_series(20, 50) as n`)
	require.NoError(t, err)
	require.NoError(t, partitions.Forget(t.Context()))
	require.EqualValues(t, 1+16, s.count(`select count(*) from seen`), "those of 36 days are left")
	again := s.new(func(x *delivery.Delivery) { x.EventID = d.EventID })
	require.NoError(t, s.deliveries.Create(t.Context(), again))
	require.Zero(t, s.count(`select count(*) from deliveries`), "the event is known for longer than its delivery")
}
