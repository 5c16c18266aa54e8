package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/seal"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
	"github.com/convoflow/convoflow/services/notify/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	secretKey = "0123456789abcdefghijklmnopqrstuvwxyz-test"
	ttl       = time.Minute
	traceID   = "4bf92f3577b34da6a3ce929d0e0e4736"
)

type deliveries interface {
	delivery.Store
	delivery.Queue
	ListMissing(ctx context.Context) (int64, error)
	ListBacklog(ctx context.Context) ([]delivery.Backlog, error)
}

type endpoints interface {
	endpoint.Store
	delivery.Endpoints
}

type stores struct {
	t          *testing.T
	db         *pg.DB
	tel        telemetry.Set
	deliveries deliveries
	endpoints  endpoints
	endpointID string // of one that is stored
}

func open(t *testing.T) stores {
	t.Helper()
	tel := telemetry.Nop()
	db := pgtest.Open(t, outbox.Migrations(), job.Migrations(), store.Migrations())
	out := outbox.New(db, tel)
	box, err := seal.New(secretKey, "", "test")
	require.NoError(t, err)
	s := stores{t: t, db: db, tel: tel, deliveries: store.Deliveries(db, out, tel), endpoints: store.Endpoints(db, out, box)}
	e := newEndpoint(endpoint.API)
	require.NoError(t, s.endpoints.Create(t.Context(), e))
	s.endpointID = e.ID
	return s
}

func ptr[T any](v T) *T { return &v }

func at(second int) time.Time { return time.Date(2026, 11, 24, 9, 0, second, 1000, time.UTC) }

func newEndpoint(origin endpoint.Origin) endpoint.Endpoint {
	return endpoint.Endpoint{
		ID: event.NewID(), URL: "https://pabbly.example/hook/hush-hush", Secrets: []string{"newest s3cret", "older s3cret"}, Events: []string{"*"},
		Profile: endpoint.Pabbly, Enabled: true, Origin: origin, CreatedAt: at(0), UpdatedAt: at(0),
	}
}

func (s stores) new(edits ...func(*delivery.Delivery)) delivery.Delivery {
	d := delivery.Delivery{
		ID: event.NewID(), EndpointID: s.endpointID, Event: "transcription.completed", EventID: event.NewID(), EventTime: at(0), CallID: ptr(event.NewID()),
		Data: []byte(`{"call_id":"c"}`), Status: delivery.Pending, CreatedAt: at(0), UpdatedAt: at(0), Lease: lease.New(), NextAttemptIn: ptr(time.Duration(0)),
	}
	for _, edit := range edits {
		edit(&d)
	}
	return d
}

// create stores a new delivery.
func (s stores) create(edits ...func(*delivery.Delivery)) delivery.Delivery {
	s.t.Helper()
	d := s.new(edits...)
	require.NoError(s.t, s.deliveries.Create(s.t.Context(), d))
	return d
}

func (s stores) find(id string) delivery.Delivery {
	s.t.Helper()
	d, err := s.deliveries.Find(s.t.Context(), id)
	require.NoError(s.t, err)
	return d
}

func (s stores) change(id string, fn func(*delivery.Delivery) error) error {
	_, err := s.deliveries.Change(s.t.Context(), id, func(d *delivery.Delivery) ([]event.Event, error) { return nil, fn(d) })
	return err
}

// begin gives a delivery to a worker.
func (s stores) begin(id string) {
	s.t.Helper()
	require.NoError(s.t, s.change(id, func(d *delivery.Delivery) error { return d.Begin(d.Epoch, "worker", ttl) }))
}

// expire makes the lease of a delivery expire that long ago.
func (s stores) expire(id string, ago time.Duration) {
	s.t.Helper()
	_, err := s.db.Pool().Exec(s.t.Context(), `update deliveries set lease_until = now() - $2::interval where id = $1`, id, ago)
	require.NoError(s.t, err)
}

func (s stores) count(sql string) int64 {
	s.t.Helper()
	return pgtest.Column[int64](s.t, s.db, sql)[0]
}

func delivered(d delivery.Delivery) event.Event {
	return events.WebhookDelivered.New(at(0), events.Delivery{DeliveryID: d.ID})
}

// computed are the fields that the database computes or that are not stored.
var computed = cmpopts.IgnoreFields(delivery.Delivery{}, "NextAttemptAt", "NextAttemptIn", "Job", "Left")

func TestAllFieldsOfADeliveryAreStoredWithItsAttempts(t *testing.T) {
	t.Parallel()
	s := open(t)
	want := s.create()
	want.Trace, want.Log = map[string]string{}, []delivery.Attempt{}
	require.Empty(t, cmp.Diff(want, s.find(want.ID), computed))

	code, problem := 500, "timeout"
	changed, err := s.deliveries.Change(t.Context(), want.ID, func(d *delivery.Delivery) ([]event.Event, error) {
		require.Empty(t, d.Log, "a change begins without the attempts")
		require.Equal(t, want.Data, d.Data)
		d.Status, d.Reason, d.Body, d.UpdatedAt, d.DeliveredAt = delivery.Retrying, &problem, []byte(`{"event":"x"}`), at(5), ptr(at(6))
		d.NextAttemptIn = ptr(time.Hour)
		d.Log = append(d.Log,
			delivery.Attempt{Number: 1, StartedAt: at(1), LatencyMS: 15, Answer: delivery.Answer{StatusCode: &code, Excerpt: "not now", TraceID: traceID}},
			delivery.Attempt{Number: 2, StartedAt: at(2), LatencyMS: 25, Answer: delivery.Answer{Error: &problem}})
		return nil, d.Begin(1, "host/1", ttl)
	})
	require.NoError(t, err)
	got := s.find(want.ID)
	require.Empty(t, cmp.Diff(changed, got, computed))
	require.Len(t, got.Log, 2)
	require.Equal(t, "host/1", *got.Holder)
	require.Equal(t, 1, got.Attempts)
	require.Equal(t, int64(2), got.Epoch)
	require.InDelta(t, ttl.Seconds(), got.Left.Seconds(), 30)
	require.Nil(t, got.Job)
	require.Equal(t, time.UTC, got.CreatedAt.Location())
	require.Equal(t, time.UTC, got.NextAttemptAt.Location())

	_, err = s.deliveries.Find(t.Context(), event.NewID())
	require.Equal(t, "delivery_not_found", fault.Of(err).Code)
	err = s.change(event.NewID(), func(*delivery.Delivery) error { return nil })
	require.Equal(t, "delivery_not_found", fault.Of(err).Code)
}

func TestAnEventHasOneDeliveryToAnEndpoint(t *testing.T) {
	t.Parallel()
	s := open(t)
	other := newEndpoint(endpoint.API)
	require.NoError(t, s.endpoints.Create(t.Context(), other))
	first := s.create()
	again := s.new(func(d *delivery.Delivery) { d.EventID = first.EventID })
	elsewhere := s.new(func(d *delivery.Delivery) { d.EventID, d.EndpointID = first.EventID, other.ID })
	require.NoError(t, s.deliveries.Create(t.Context(), again, elsewhere))
	_, err := s.deliveries.Find(t.Context(), again.ID)
	require.True(t, fault.Is(err, fault.NotFound))
	require.Equal(t, int64(2), s.count(`select count(*) from deliveries`))
}

func TestAnEventThatArrivesAtTheSameTimeHasOneDelivery(t *testing.T) {
	t.Parallel()
	s, eventID := open(t), event.NewID()
	var g errgroup.Group
	for range 8 {
		d := s.new(func(d *delivery.Delivery) { d.EventID = eventID })
		g.Go(func() error { return s.deliveries.Create(t.Context(), d) })
	}
	require.NoError(t, g.Wait())
	require.Equal(t, int64(1), s.count(`select count(*) from deliveries`))
}

var errStop = errors.New("stop")

func TestAChangeItsEventsAndAttemptsAreOneTransaction(t *testing.T) {
	t.Parallel()
	s := open(t)
	d := s.create()
	s.begin(d.ID)
	before := s.find(d.ID)
	fail := func(ctx context.Context, refuse error) error {
		_, err := s.deliveries.Change(ctx, d.ID, func(d *delivery.Delivery) ([]event.Event, error) {
			d.Status = delivery.Retrying
			d.Log = append(d.Log, delivery.Attempt{Number: 1, StartedAt: at(1)})
			require.NoError(t, d.Fail(2, time.Minute, true))
			return []event.Event{delivered(*d)}, refuse
		})
		return err
	}
	nothing := func() {
		t.Helper()
		require.Empty(t, cmp.Diff(before, s.find(d.ID), computed))
		require.Zero(t, s.count(`select count(*) from outbox`))
		require.Zero(t, s.count(`select count(*) from attempts`))
	}
	require.ErrorIs(t, fail(t.Context(), errStop), errStop)
	nothing()
	require.ErrorIs(t, s.db.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, fail(ctx, nil))
		return errStop
	}), errStop)
	nothing()

	require.NoError(t, fail(t.Context(), nil))
	got := s.find(d.ID)
	require.Equal(t, delivery.Retrying, got.Status)
	require.Len(t, got.Log, 1)
	require.Equal(t, 1, got.Failures)
	require.Nil(t, got.Holder)
	require.Nil(t, got.Left)
	require.Equal(t, []string{"webhook.delivered"}, pgtest.Column[string](t, s.db, `select type from outbox`))

	// An attempt that exists already makes the whole change fail.
	s.begin(d.ID)
	before = s.find(d.ID)
	_, err := s.deliveries.Change(t.Context(), d.ID, func(d *delivery.Delivery) ([]event.Event, error) {
		d.Log = append(d.Log, delivery.Attempt{Number: 1, StartedAt: at(2)})
		return []event.Event{delivered(*d)}, d.HandBack(d.Epoch)
	})
	require.Error(t, err)
	require.Empty(t, cmp.Diff(before, s.find(d.ID), computed))
	require.Equal(t, int64(1), s.count(`select count(*) from outbox`))
}

func TestTheDatabasesClockDecidesWhatIsDue(t *testing.T) {
	t.Parallel()
	s := open(t)
	d := s.create()
	require.NoError(t, s.change(d.ID, func(d *delivery.Delivery) error {
		d.NextAttemptIn = ptr(2 * time.Hour)
		return d.Requeue(1)
	}))
	require.Equal(t, []bool{true}, pgtest.Column[bool](t, s.db, `select next_attempt_at between now() + interval '119 minutes' and now() + interval '2 hours' from deliveries`))
	first := s.find(d.ID)
	require.LessOrEqual(t, *first.NextAttemptIn, 2*time.Hour)

	for range 3 {
		require.NoError(t, s.change(d.ID, func(d *delivery.Delivery) error { d.Reason = ptr("touched"); return nil }))
	}
	require.Equal(t, first.NextAttemptAt, s.find(d.ID).NextAttemptAt, "a change of something else does not move it")
	page, err := s.deliveries.List(t.Context(), delivery.Filter{Request: page.All()})
	require.NoError(t, err)
	require.Equal(t, first.NextAttemptAt, page.Items[0].NextAttemptAt)
}

func TestEverythingOfADeliveryBelongsToTheTraceOfItsEvent(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := s.tel.Extract(t.Context(), map[string]string{"traceparent": "00-" + traceID + "-00f067aa0ba902b7-01"})
	d := s.new()
	require.NoError(t, s.deliveries.Create(ctx, d))
	other := s.create()
	publish := func(d *delivery.Delivery) ([]event.Event, error) { return []event.Event{delivered(*d)}, nil }
	_, err := s.deliveries.Change(t.Context(), d.ID, publish)
	require.NoError(t, err)
	require.NoError(t, s.deliveries.ChangeAll(t.Context(), []string{d.ID, other.ID}, func(d *delivery.Delivery) (bool, []event.Event, error) {
		events, err := publish(d)
		return true, events, err
	}))
	traces := pgtest.Column[string](t, s.db, `select trace->>'traceparent' from outbox where key = '`+d.ID+`'`)
	require.Len(t, traces, 2)
	for _, trace := range traces {
		require.Contains(t, trace, traceID)
	}
}

// sweep changes each delivery of a selection and returns their ids in order.
func (s stores) sweep(sel delivery.Selection, fn func(*delivery.Delivery)) (ids []string) {
	s.t.Helper()
	n, err := s.deliveries.ChangeEach(s.t.Context(), sel, func(d *delivery.Delivery) []event.Event {
		ids = append(ids, d.ID)
		fn(d)
		return nil
	})
	require.NoError(s.t, err)
	require.Len(s.t, ids, n)
	return ids
}

// claim claims up to n deliveries of the endpoint, and returns their ids.
func (s stores) claim(n int) (ids []string) {
	s.t.Helper()
	claimed, err := s.deliveries.ChangeDue(s.t.Context(), map[string]int{s.endpointID: n}, func(d *delivery.Delivery) error {
		if d.Expired() {
			d.Stop()
		}
		return d.Begin(d.Epoch, "next", ttl)
	})
	require.NoError(s.t, err)
	for _, d := range claimed {
		ids = append(ids, d.ID)
	}
	return ids
}

func TestExpiredLeasesAreClaimedLongestDueFirst(t *testing.T) {
	t.Parallel()
	s := open(t)
	due := func(ago time.Duration) func(*delivery.Delivery) {
		return func(d *delivery.Delivery) { d.NextAttemptIn = ptr(-ago) }
	}
	running, newest, oldest, waiting, later := s.create(due(3*time.Hour)), s.create(due(time.Second)), s.create(due(time.Hour)), s.create(due(time.Minute)), s.create(due(-time.Hour))
	for _, d := range []delivery.Delivery{running, newest, oldest} {
		s.begin(d.ID)
	}
	s.expire(newest.ID, time.Hour)
	s.expire(oldest.ID, time.Second)
	what, err := s.deliveries.ListWaiting(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, 3, what[0].Due)
	require.Equal(t, []string{oldest.ID, waiting.ID, newest.ID}, s.claim(10))
	require.Empty(t, s.claim(10), "once")
	require.Equal(t, "worker", *s.find(running.ID).Holder, "a lease that has not expired is not revoked")
	require.Equal(t, "next", *s.find(oldest.ID).Holder)
	require.Equal(t, later.Epoch, s.find(later.ID).Epoch)
}

// The statement for many rows does what lease.Lease.Stop does: a worker that comes back records nothing.
func TestAResumedDeliveryHasNoWorker(t *testing.T) {
	t.Parallel()
	s := open(t)
	d := s.create(func(d *delivery.Delivery) { d.Status, d.NextAttemptIn = delivery.Retrying, ptr(time.Hour) })
	s.begin(d.ID)
	s.expire(d.ID, time.Minute)
	want := s.find(d.ID).Lease
	want.Stop()
	require.NoError(t, s.deliveries.Resume(t.Context(), s.endpointID))
	got := s.find(d.ID)
	require.Equal(t, want, got.Lease)
	require.LessOrEqual(t, *got.NextAttemptIn, time.Duration(0))
}

func (s stores) deleteEndpoint() {
	s.t.Helper()
	_, err := s.db.Pool().Exec(s.t.Context(), `update endpoints set enabled = false, disabled_reason = 'deleted', deleted_at = now() where id = $1`, s.endpointID)
	require.NoError(s.t, err)
}

func TestChangeEachChangesWhatIsSelected(t *testing.T) {
	t.Parallel()
	s := open(t)
	other := newEndpoint(endpoint.API)
	require.NoError(t, s.endpoints.Create(t.Context(), other))
	replay := event.NewID()
	waiting, retrying := s.create(), s.create(func(d *delivery.Delivery) { d.Status, d.ReplayID = delivery.Retrying, &replay })
	leased := s.create()
	s.create(func(d *delivery.Delivery) { d.Status = delivery.Delivered })
	s.create(func(d *delivery.Delivery) { d.EndpointID = other.ID })
	s.begin(leased.ID)
	end := func(d *delivery.Delivery) { d.Status = delivery.Dead; d.Stop() }
	require.Equal(t, []string{retrying.ID}, s.sweep(delivery.Selection{ReplayID: replay}, end))
	require.Empty(t, s.sweep(delivery.Selection{Deleted: true}, end))
	s.deleteEndpoint()
	require.Equal(t, []string{waiting.ID}, s.sweep(delivery.Selection{Deleted: true}, end))
}

func TestChangeEachChangesAllMatchingDeliveries(t *testing.T) {
	t.Parallel()
	s := open(t)
	var all []delivery.Delivery
	for range 1001 { // two full transactions and one more
		all = append(all, s.new())
	}
	require.NoError(t, s.deliveries.Create(t.Context(), all...))
	end := func(d *delivery.Delivery) { d.Status = delivery.Dead; d.Stop() }
	s.deleteEndpoint()
	require.Len(t, s.sweep(delivery.Selection{Deleted: true}, end), len(all))
	require.Equal(t, int64(len(all)), s.count(`select count(*) from deliveries where status = 'dead'`))
}

func TestLockedDeliveriesAreSkipped(t *testing.T) {
	t.Parallel()
	s := open(t)
	locked, free := s.create(), s.create()
	require.NoError(t, s.db.InTx(t.Context(), func(ctx context.Context) error {
		_, err := s.deliveries.Change(ctx, locked.ID, func(*delivery.Delivery) ([]event.Event, error) { return nil, nil })
		require.NoError(t, err)
		require.Equal(t, []string{free.ID}, s.claim(2), "from another transaction")
		s.deleteEndpoint()
		s.expire(free.ID, time.Minute)
		require.Equal(t, []string{free.ID}, s.sweep(delivery.Selection{Deleted: true}, func(d *delivery.Delivery) { d.Status = delivery.Dead }))
		return nil
	}))
}

// list reads all pages of a list by its cursors.
