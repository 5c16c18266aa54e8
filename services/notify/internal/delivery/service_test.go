package delivery_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/job/jobtest"
	"github.com/convoflow/convoflow/libs/network"
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

const secretKey = "0123456789abcdefghijklmnopqrstuvwxyz-test"

// rig is the service with its real store, a stopped clock and a scripted receiver. Leases use the database's own clock.
type rig struct {
	*delivery.Service
	t          *testing.T
	db         *pg.DB
	endpoints  delivery.Endpoints
	deliveries *watched
	seeding    *endpoint.Service
	clock      *clock.Manual
	receiver   *receiver
}

type receiver struct {
	mu     sync.Mutex
	got    []delivery.Message
	answer func(ctx context.Context) delivery.Answer
}

func (r *receiver) Send(ctx context.Context, m delivery.Message) (delivery.Answer, error) {
	if err := network.Check(ctx); err != nil {
		return delivery.Answer{}, err
	}
	r.mu.Lock()
	r.got = append(r.got, m)
	answer := r.answer
	r.mu.Unlock()
	return answer(ctx), nil
}

func status(code int) func(context.Context) delivery.Answer {
	return func(context.Context) delivery.Answer { return delivery.Answer{StatusCode: &code, Excerpt: "said so"} }
}

func timeout(context.Context) delivery.Answer {
	problem := "timeout"
	return delivery.Answer{Error: &problem}
}

type nobody struct{}

func (nobody) Attempted(context.Context, delivery.Delivery, delivery.Attempt) {}

// watched is the real store; it records how long each delivery had to wait after its last change.
type watched struct {
	delivery.Store
	mu    sync.Mutex
	waits map[string]*time.Duration
}

func (w *watched) Change(ctx context.Context, id string, fn func(*delivery.Delivery) ([]event.Event, error)) (delivery.Delivery, error) {
	d, err := w.Store.Change(ctx, id, fn)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waits[id] = d.NextAttemptIn
	return d, err
}

func start(t *testing.T) *rig {
	t.Helper()
	tel := telemetry.Nop()
	db := pgtest.Open(t, outbox.Migrations(), job.Migrations(), store.Migrations())
	jobs := jobtest.Queue(t, db, store.Attempt)
	box, err := seal.New(secretKey, "", "test")
	require.NoError(t, err)
	deliveries, endpoints := store.Deliveries(db, outbox.New(db, tel), jobs, tel), store.Endpoints(db, box)
	r := &rig{
		t: t, db: db, endpoints: endpoints, deliveries: &watched{Store: deliveries, waits: map[string]*time.Duration{}},
		clock: clock.At(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)), receiver: &receiver{answer: status(http.StatusOK)},
	}
	r.Service = &delivery.Service{
		Deliveries: r.deliveries, Jobs: deliveries, Endpoints: endpoints, Agents: store.Agents(db), Clients: store.Clients(db), Leads: store.Leads(db), Erasures: store.Erasures(db, outbox.New(db, tel)), Sender: r.receiver,
		Observer: nobody{}, Clock: r.clock, Log: tel.Log, Jitter: func() float64 { return 0.5 }, Holder: "test/1", PublicURL: "http://x", Bulkhead: delivery.NewBulkhead(4),
	}
	r.seeding = &endpoint.Service{Endpoints: endpoints, Deliveries: r.Service, Clock: r.clock}
	require.NoError(t, r.OnAgentChanged(t.Context(), event.Received[events.Agent]{Data: events.Agent{AgentID: agentID, Version: 1, FullName: "Asha Rao", Email: "asha@example.com"}}))
	return r
}

func (r *rig) seed(url, secret string) int {
	r.t.Helper()
	n, err := r.seeding.Seed(r.t.Context(), url, secret)
	require.NoError(r.t, err)
	return n
}

var agentID = event.NewID()

func (r *rig) event(clientID *string, edits ...func(*events.Call)) event.Received[events.Call] {
	r.t.Helper()
	c := events.Call{CallID: event.NewID(), AgentID: agentID, ClientID: clientID, Status: "completed", CallType: "default"}
	for _, edit := range edits {
		edit(&c)
	}
	e := events.TranscriptionCompleted.New(r.clock.Now(), c)
	received, err := events.TranscriptionCompleted.Decode(e)
	require.NoError(r.t, err)
	return received
}

// deliver passes an event to the service and returns its delivery.
func (r *rig) deliver(clientID *string, edits ...func(*events.Call)) string {
	r.t.Helper()
	e := r.event(clientID, edits...)
	require.NoError(r.t, r.OnTranscriptionCompleted(r.t.Context(), e))
	list, err := r.List(r.t.Context(), delivery.Filter{CallID: &e.Data.CallID, Request: page.All()})
	require.NoError(r.t, err)
	require.Len(r.t, list.Items, 1)
	return list.Items[0].ID
}

func (r *rig) find(id string) delivery.Delivery {
	r.t.Helper()
	d, err := r.deliveries.Find(r.t.Context(), id)
	require.NoError(r.t, err)
	return d
}

// doJob runs the current job of a delivery.
func (r *rig) doJob(id string) delivery.Delivery {
	r.t.Helper()
	require.NoError(r.t, r.Attempt(r.t.Context(), id, r.find(id).Epoch))
	return r.find(id)
}

func (r *rig) answers(with func(context.Context) delivery.Answer) {
	r.receiver.mu.Lock()
	defer r.receiver.mu.Unlock()
	r.receiver.answer = with
}

// jobs returns the epochs of the jobs of a delivery, in the order in which they were inserted.
func (r *rig) jobs(id string) []int64 {
	return query[int64](r, `select (args->>'epoch')::bigint from river_job where args->>'id' = $1 order by id`, id)
}

// wait returns how long a delivery had to wait after its last change. It requires that the row and the newest job are due at
// the same time.
func (r *rig) wait(id string) time.Duration {
	r.t.Helper()
	require.Equal(r.t, []bool{true}, query[bool](r, `
		select d.next_attempt_at = j.scheduled_at from river_job j join deliveries d on d.id::text = j.args->>'id' where d.id = $1 order by j.id desc limit 1`, id))
	r.deliveries.mu.Lock()
	defer r.deliveries.mu.Unlock()
	return *r.deliveries.waits[id]
}

// expire makes the lease of a delivery expire a moment ago.
func (r *rig) expire(id string) {
	r.t.Helper()
	_, err := r.db.Pool().Exec(r.t.Context(), `update deliveries set lease_until = now() - interval '1 millisecond' where id = $1 and lease_holder is not null`, id)
	require.NoError(r.t, err)
}

func (r *rig) events() []string { return query[string](r, `select type from outbox order by id`) }

func query[T any](r *rig, sql string, args ...any) []T {
	r.t.Helper()
	return pgtest.Column[T](r.t, r.db, sql, args...)
}

func TestASuccessIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	r := start(t)
	require.Equal(t, 1, r.seed("https://pabbly.example/hook", "s3cret"))
	id := r.deliver(nil)
	require.Equal(t, []int64{1}, r.jobs(id))
	d := r.doJob(id)
	require.Equal(t, delivery.Delivered, d.Status)
	require.Equal(t, r.clock.Now(), *d.DeliveredAt)
	require.Nil(t, d.NextAttemptAt)
	require.Nil(t, d.Holder)
	require.Nil(t, d.Left)
	require.Equal(t, []string{"webhook.delivered"}, r.events())
	require.Equal(t, "said so", d.Log[0].Excerpt)

	r.doJob(id)
	require.Len(t, r.receiver.got, 1, "it is delivered")
	require.Equal(t, "https://pabbly.example/hook", r.receiver.got[0].URL)
	require.Equal(t, []string{"s3cret"}, r.receiver.got[0].Secrets)
	require.Equal(t, d.EventID, r.receiver.got[0].EventID)
}

func TestTheScheduleToItsEnd(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	r.answers(status(http.StatusInternalServerError))
	id := r.deliver(nil)
	var waits []time.Duration
	for d := r.doJob(id); d.Status == delivery.Retrying; d = r.doJob(id) {
		require.Equal(t, "status_500", *d.Reason)
		waits = append(waits, r.wait(id))
		require.Equal(t, d.Epoch, r.jobs(id)[len(waits)], "each attempt has a job")
		require.Equal(t, len(waits), d.Requests())
		r.clock.Advance(waits[len(waits)-1])
	}
	require.Equal(t, []time.Duration{
		5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 24 * time.Hour,
	}, waits)
	d := r.find(id)
	require.Equal(t, delivery.Dead, d.Status)
	require.Equal(t, "status_500", *d.Reason)
	require.Len(t, d.Log, 11)
	require.Equal(t, []string{"webhook.dead"}, r.events())
	for _, m := range r.receiver.got {
		require.Equal(t, r.receiver.got[0], m, "the same bytes and event id on every attempt")
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	r.answers(func(ctx context.Context) delivery.Answer {
		a := status(http.StatusTooManyRequests)(ctx)
		a.RetryAfter = 7 * time.Minute
		return a
	})
	id := r.deliver(nil)
	r.doJob(id)
	require.Equal(t, 7*time.Minute, r.wait(id))
}

func TestGoneDisablesTheEndpointAndHoldsTheRest(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	other, id := r.deliver(nil), r.deliver(nil)
	r.answers(status(http.StatusGone))
	d := r.doJob(id)
	require.Equal(t, delivery.Held, d.Status)
	require.Equal(t, "endpoint_gone", *d.Reason)
	require.Equal(t, delivery.Held, r.find(other).Status)
	require.Equal(t, 410, *d.Log[0].StatusCode)
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), r.event(nil)))
	require.Len(t, query[string](r, `select id::text from deliveries`), 2, "a disabled endpoint wants nothing")

	require.Equal(t, 0, r.seed("https://pabbly.example/hook", "s3cret"), "the same address is still gone")
	r.answers(status(http.StatusOK))
	require.Equal(t, 1, r.seed("https://pabbly.example/moved", "s3cret"))
	require.Equal(t, delivery.Pending, r.find(other).Status)
	require.Equal(t, delivery.Retrying, r.find(id).Status)
	require.Equal(t, delivery.Delivered, r.doJob(other).Status)
	require.Equal(t, delivery.Delivered, r.doJob(id).Status)
	require.Equal(t, "https://pabbly.example/moved", r.receiver.got[2].URL)
}

func TestADeliveryWhoseEndpointIsDisabledMeanwhileIsHeld(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	e, err := r.endpoints.List(t.Context())
	require.NoError(t, err)
	_, err = r.endpoints.Change(t.Context(), e[0].ID, func(e *endpoint.Endpoint) error { e.Disable(endpoint.Gone, r.clock.Now()); return nil })
	require.NoError(t, err)
	require.Equal(t, delivery.Held, r.doJob(id).Status)
	require.Empty(t, r.receiver.got)
}

// The endpoint was read before it was enabled, and the delivery is held after its deliveries were resumed.
func TestADeliveryThatIsHeldTooLateIsResumed(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	_, err := r.db.Pool().Exec(t.Context(), `update deliveries set status = 'held', reason = 'endpoint_gone', next_attempt_at = null`)
	require.NoError(t, err)
	require.NoError(t, r.Rescue(t.Context()))
	require.Equal(t, delivery.Delivered, r.doJob(id).Status)
}

func TestADeliveryWhoseEventCannotBeReadIsDead(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	_, err := r.db.Pool().Exec(t.Context(), `update deliveries set data = '[]'`)
	require.NoError(t, err)
	d := r.doJob(id)
	require.Equal(t, delivery.Dead, d.Status)
	require.Equal(t, "payload_invalid", *d.Reason)
	require.Nil(t, d.NextAttemptAt)
	require.Equal(t, []string{"webhook.dead"}, r.events())
	require.Empty(t, r.receiver.got)
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
	require.Equal(t, "endpoint_not_configured", *r.find(id).Reason)
	require.Equal(t, 1, r.seed("https://pabbly.example/hook", "s3cret"))
	require.Equal(t, delivery.Delivered, r.doJob(id).Status)
	require.Len(t, query[string](r, `select id::text from endpoints`), 1)
}

func TestADuplicateEventMakesOneDelivery(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	e := r.event(nil)
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), e))
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), e))
	ids := query[string](r, `select id::text from deliveries`)
	require.Len(t, ids, 1)
	require.Len(t, r.jobs(ids[0]), 1)
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
	require.Empty(t, query[int64](r, `select id from river_job`))
}

func TestACrashBetweenSendAndRecordSendsTheSameAgain(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	crashed := make(chan struct{})
	// The process dies while it sends: nothing after the send happens.
	sending := make(chan struct{})
	r.answers(func(ctx context.Context) delivery.Answer {
		close(sending)
		<-crashed
		return status(http.StatusOK)(ctx)
	})
	var old sync.WaitGroup
	old.Go(func() { _ = r.Attempt(context.WithoutCancel(t.Context()), id, 1) })
	<-sending
	require.NoError(t, r.Rescue(t.Context()))
	require.Equal(t, "test/1", *r.find(id).Holder, "a lease that has not expired is not revoked")
	require.Equal(t, []int64{1}, r.jobs(id))

	r.expire(id)
	require.NoError(t, r.Rescue(t.Context()))
	require.NoError(t, r.Rescue(t.Context()))
	require.Equal(t, []int64{1, r.find(id).Epoch}, r.jobs(id), "once")
	require.NoError(t, r.Attempt(t.Context(), id, 1))
	require.Len(t, r.receiver.got, 1, "the job of an old epoch does nothing")

	r.answers(status(http.StatusInternalServerError))
	d := r.doJob(id)
	require.Equal(t, delivery.Retrying, d.Status)
	require.Len(t, r.receiver.got, 2)
	require.Equal(t, r.receiver.got[0], r.receiver.got[1], "the same event id, the same bytes")

	close(crashed) // the old worker was only stopped: its late result is refused
	old.Wait()
	after := r.find(id)
	d.NextAttemptIn, after.NextAttemptIn = nil, nil // these change with time
	require.Equal(t, d, after)
	require.Empty(t, r.events())
}

func TestALateResultDoesNotEndTheLeaseOfTheNextWorker(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	// Two workers, one after the other; each sends until finish is called.
	worker := func(epoch int64) (finish func()) {
		sending, release := make(chan struct{}), make(chan struct{})
		r.answers(func(ctx context.Context) delivery.Answer {
			close(sending)
			<-release
			return status(http.StatusOK)(ctx)
		})
		var running sync.WaitGroup
		running.Go(func() { _ = r.Attempt(context.WithoutCancel(t.Context()), id, epoch) })
		<-sending
		return func() { close(release); running.Wait() }
	}
	finishOld := worker(1)
	r.expire(id)
	require.NoError(t, r.Rescue(t.Context()))
	finishNew := worker(r.find(id).Epoch)
	finishOld()
	d := r.find(id)
	require.Equal(t, delivery.Pending, d.Status, "the old worker's result is refused")
	require.NotNil(t, d.Holder)
	require.Positive(t, *d.Left)
	finishNew()
	require.Equal(t, delivery.Delivered, r.find(id).Status)
	require.Equal(t, []string{"webhook.delivered"}, r.events())
}

func TestTwoWorkersOfOneJobSendOnce(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() { _ = r.Attempt(t.Context(), id, 1) })
	}
	workers.Wait()
	require.Len(t, r.receiver.got, 1)
	require.Equal(t, delivery.Delivered, r.find(id).Status)
}

func TestAProcessThatStopsHandsTheDeliveryBack(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	ctx, stop := context.WithCancel(t.Context())
	r.answers(func(ctx context.Context) delivery.Answer { stop(); return timeout(ctx) })
	require.NoError(t, r.Attempt(ctx, id, 1))
	d := r.find(id)
	require.Equal(t, delivery.Pending, d.Status)
	require.Nil(t, d.Holder)
	require.Nil(t, d.Left)
	require.LessOrEqual(t, *d.NextAttemptIn, time.Duration(0), "it is due at once")
	require.Empty(t, d.Log)
	require.Zero(t, d.Requests())
	require.Equal(t, []int64{1, d.Epoch}, r.jobs(id))
	require.Equal(t, []string{"available"}, query[string](r, `select state::text from river_job where (args->>'epoch')::bigint = $1`, d.Epoch))
}

func TestAnAnswerThatCameBeforeTheStopIsRecorded(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	ctx, stop := context.WithCancel(t.Context())
	r.answers(func(ctx context.Context) delivery.Answer { stop(); return status(http.StatusOK)(ctx) })
	require.NoError(t, r.Attempt(ctx, id, 1))
	require.Equal(t, delivery.Delivered, r.find(id).Status)
}

// Without its result the delivery would be sent again after each lease.
func TestAnAnswerThatTheDatabaseRefusesIsRecordedWithoutItsText(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]delivery.Status{http.StatusOK: delivery.Delivered, http.StatusInternalServerError: delivery.Retrying} {
		r := start(t)
		r.seed("https://pabbly.example/hook", "s3cret")
		id := r.deliver(nil)
		r.answers(func(context.Context) delivery.Answer {
			return delivery.Answer{StatusCode: &code, Excerpt: "a\x00b", TraceID: "\xff"}
		})
		require.NoError(t, r.Attempt(t.Context(), id, 1))
		d := r.find(id)
		require.Equal(t, want, d.Status)
		require.Len(t, d.Log, 1)
		require.Equal(t, code, *d.Log[0].StatusCode)
		require.Empty(t, d.Log[0].Excerpt)
		require.Len(t, r.receiver.got, 1)
	}
}

func TestAJobThatADeadProcessFetchedIsDoneByAnother(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id, sending := r.deliver(nil), r.deliver(nil)
	fetched := func(ago time.Duration) { // by a process that died before it began
		_, err := r.db.Pool().Exec(t.Context(), `update river_job set state = 'running', attempted_at = now() - $1::interval where (args->>'epoch')::int = 1`, ago)
		require.NoError(t, err)
	}
	fetched(time.Second)
	require.NoError(t, r.Rescue(t.Context()))
	require.Equal(t, []int64{1}, r.jobs(id), "the process may be about to begin")

	_, err := r.deliveries.Change(t.Context(), sending, func(d *delivery.Delivery) ([]event.Event, error) { return nil, d.Begin(1, "test/2", time.Minute) })
	require.NoError(t, err)
	fetched(time.Hour)
	require.NoError(t, r.Rescue(t.Context()))
	require.NoError(t, r.Rescue(t.Context()))
	require.Equal(t, []int64{1, r.find(id).Epoch}, r.jobs(id), "once")
	require.Equal(t, []int64{1}, r.jobs(sending), "a worker has it")
	require.NoError(t, r.Attempt(t.Context(), id, 1))
	require.Empty(t, r.receiver.got, "the job of the dead process is superseded")
	require.Equal(t, delivery.Delivered, r.doJob(id).Status)
}

// What a dead process held is taken over regardless of how much is waiting, and what is waiting is left alone.
func TestTheTakeoverDoesNotDependOnWaitingDeliveries(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	sent, fetched := r.deliver(nil), r.deliver(nil)
	_, err := r.db.Pool().Exec(t.Context(), `
		insert into deliveries (id, endpoint_id, event, event_id, event_time, call_id, data, status, attempts, failures, next_attempt_at, lease_epoch, trace, created_at, updated_at)
			select gen_random_uuid(), endpoint_id, event, gen_random_uuid(), event_time, call_id, data, 'pending', 0, 0, now() - interval '1 day', 1, trace, created_at, updated_at
			from deliveries, generate_series(1, 4000) where id = $1`, sent)
	require.NoError(t, err)
	_, err = r.db.Pool().Exec(t.Context(), `
		insert into river_job (state, queue, kind, args, max_attempts, priority) select 'available', 'notify_attempt', 'notify.attempt', jsonb_build_object('id', id, 'epoch', 1), 1000, 2
			from deliveries where id not in ($1, $2)`, sent, fetched)
	require.NoError(t, err)
	_, err = r.deliveries.Change(t.Context(), sent, func(d *delivery.Delivery) ([]event.Event, error) { return nil, d.Begin(1, "dead", time.Minute) })
	require.NoError(t, err)
	r.expire(sent)
	_, err = r.db.Pool().Exec(t.Context(), `update river_job set state = 'running', attempted_at = now() - interval '1 minute' where args->>'id' = any($1)`, []string{sent, fetched})
	require.NoError(t, err)

	require.NoError(t, r.Rescue(t.Context()))
	require.NoError(t, r.Rescue(t.Context()))
	front := query[string](r, `select args->>'id' from river_job where state = 'available' order by priority, scheduled_at, id limit 3`)
	require.ElementsMatch(t, []string{sent, fetched}, front[:2], "they are next")
	require.Equal(t, []int{4004}, query[int](r, `select count(*)::int from river_job`), "4,000 that wait, the two of the dead process, and one more for each of these")
}

func TestAPayloadWaitsForTheCopiesOfWhoItNames(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	clientID := event.NewID()
	id := r.deliver(&clientID)
	d := r.doJob(id)
	require.Equal(t, delivery.Pending, d.Status)
	require.Equal(t, time.Second, r.wait(id))
	require.Nil(t, d.Body)
	require.Empty(t, r.receiver.got)

	name := "Meera Nair"
	require.NoError(t, r.OnClientChanged(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: clientID, Version: 1, Name: name}}))
	r.answers(status(http.StatusBadGateway))
	r.doJob(id)
	require.Equal(t, name, r.sent(0)["client_name"])

	require.NoError(t, r.OnClientDeleted(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: clientID, Version: 3}}))
	require.NoError(t, r.OnClientChanged(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: clientID, Version: 2, Name: name}}))
	require.Equal(t, []*string{nil}, query[*string](r, `select name from clients`), "erased, and an older event does not bring it back")
	r.doJob(id)
	require.Equal(t, r.receiver.got[0], r.receiver.got[1], "what was sent once is sent again")

	before := len(query[string](r, `select id::text from deliveries`))
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), about(clientID)))
	require.Len(t, query[string](r, `select id::text from deliveries`), before, "nothing is sent about an erased client")
}

// about returns a completed call of a client.
func about(clientID string) event.Received[events.Call] {
	call := events.Call{CallID: event.NewID(), Version: 1, AgentID: event.NewID(), ClientID: &clientID}
	return event.Received[events.Call]{Event: events.TranscriptionCompleted.New(time.Now(), call), Data: call}
}

func TestAMergedClientIsTheOther(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	loser, winner := event.NewID(), event.NewID()
	require.NoError(t, r.OnClientChanged(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: winner, Version: 1, Name: "Meera Nair"}}))
	require.NoError(t, r.OnClientDeleted(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: loser, Version: 2, MergedInto: &winner}}))
	r.doJob(r.deliver(&loser))
	require.Equal(t, "Meera Nair", r.sent(0)["client_name"])
	require.Equal(t, winner, r.sent(0)["client_id"])
}

func TestErasureBlanksWhatWasSentAndEndsWhatWasNot(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{events.KindClient, events.KindLead, events.KindAgent} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			r.seed("https://pabbly.example/hook", "s3cret")
			clientID, leadID := event.NewID(), event.NewID()
			name := "Canary Featherstonehaugh"
			require.NoError(t, r.OnClientChanged(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: clientID, Version: 1, Name: name}}))
			imported, err := events.LeadImported.Decode(events.LeadImported.New(r.clock.Now(), events.Lead{LeadID: leadID, Version: 1, Name: name, Phone: new("+919812345670")}))
			require.NoError(t, err)
			require.NoError(t, r.OnLeadChanged(t.Context(), imported))
			ofLead := func(c *events.Call) { c.LeadID = &leadID }
			sent := r.deliver(&clientID, ofLead)
			r.doJob(sent)
			r.answers(status(http.StatusBadGateway))
			open := r.deliver(&clientID, ofLead)
			r.doJob(open)
			subject := map[string]string{events.KindClient: clientID, events.KindLead: leadID, events.KindAgent: agentID}[kind]
			request := events.Erasure{ErasureID: event.NewID(), Kind: kind, SubjectID: subject, SubjectVersion: 9, RequestedBy: event.NewID(), RequestedAt: time.Now()}
			for range 2 { // also when it is delivered again
				require.NoError(t, r.OnErasureRequested(t.Context(), event.Received[events.Erasure]{Data: request}))
			}
			require.Empty(t, query[string](r, `select convert_from(body, 'UTF8') from deliveries where body is not null`))
			require.Empty(t, query[string](r, `select answer from attempts where answer <> ''`))
			require.Equal(t, []string{"erasure.done", "erasure.done"}, query[string](r, `select type from outbox where type = 'erasure.done'`))
			d := r.doJob(open)
			if kind == events.KindAgent {
				require.Equal(t, delivery.Retrying, d.Status, "the client's events are delivered")
				return
			}
			require.Equal(t, delivery.Dead, d.Status)
			require.Equal(t, "erased", *d.Reason)
			copied := kind + "s"
			left := map[string][]string{events.KindClient: {"lead.imported"}}[kind]
			require.ElementsMatch(t, left, query[string](r, `select event from deliveries where data <> '{}'`))
			require.Equal(t, []*string{nil}, query[*string](r, `select name from `+copied))
			require.Equal(t, []*string{nil}, query[*string](r, `select phone from `+copied))

			// What was published before the erasure may arrive later.
			before := query[int](r, `select count(*)::int from deliveries`)
			require.NoError(t, r.OnTranscriptionCompleted(t.Context(), r.event(&clientID, ofLead)))
			if kind == events.KindLead {
				imported.ID = event.NewID()
				require.NoError(t, r.OnLeadChanged(t.Context(), imported))
			}
			require.Equal(t, before, query[int](r, `select count(*)::int from deliveries`))
			require.Equal(t, []*string{nil}, query[*string](r, `select name from `+copied))
		})
	}
}

func TestAPayloadWaitsThirtySecondsAtMost(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	clientID := event.NewID()
	id := r.deliver(&clientID)
	r.clock.Advance(29 * time.Second)
	require.Equal(t, delivery.Pending, r.doJob(id).Status)
	r.clock.Advance(time.Second)
	require.Equal(t, delivery.Delivered, r.doJob(id).Status)
	require.Nil(t, r.sent(0)["client_name"])
	require.Equal(t, clientID, r.sent(0)["client_id"])
	require.Equal(t, "Asha Rao", r.sent(0)["agent_name"])
}

func (r *rig) sent(i int) map[string]any {
	r.t.Helper()
	var fields map[string]any
	require.NoError(r.t, json.Unmarshal(r.receiver.got[i].Body, &fields))
	return fields
}

func TestASlowEndpointLeavesWorkersToOthers(t *testing.T) {
	t.Parallel()
	r := start(t) // 4 workers
	r.seed("https://pabbly.example/hook", "s3cret")
	release := make(chan struct{})
	var entered, workers sync.WaitGroup
	entered.Add(2)
	r.answers(func(ctx context.Context) delivery.Answer {
		entered.Done()
		<-release
		return status(http.StatusOK)(ctx)
	})
	for range 2 {
		id := r.deliver(nil)
		workers.Go(func() { _ = r.Attempt(t.Context(), id, 1) })
	}
	entered.Wait()
	third := r.doJob(r.deliver(nil))
	require.Equal(t, delivery.Pending, third.Status)
	require.Equal(t, time.Second, r.wait(third.ID))
	require.Zero(t, third.Requests())
	require.Zero(t, third.Attempts)
	close(release)
	workers.Wait()
	r.answers(status(http.StatusOK))
	require.Equal(t, delivery.Delivered, r.doJob(third.ID).Status)
}

func TestTheListIsFilteredAndPaged(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	var ids []string
	for range 5 {
		ids = append(ids, r.deliver(nil))
		r.clock.Advance(time.Minute)
	}
	r.doJob(ids[2])
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
	d := r.doJob(ids[0])
	require.Equal(t, delivery.Delivered, d.Status)
	require.Equal(t, received.Data.CallID, *d.CallID)
	require.Equal(t, "followup.scheduled", r.receiver.got[0].Event)
}
