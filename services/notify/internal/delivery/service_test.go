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
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
	"github.com/convoflow/convoflow/services/notify/internal/seal"
	"github.com/convoflow/convoflow/services/notify/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const secretKey = "0123456789abcdefghijklmnopqrstuvwxyz-test"

// rig is the service with its real store, a clock that stands still and a receiver that answers by script.
type rig struct {
	*delivery.Service
	t          *testing.T
	db         *pg.DB
	endpoints  *store.Endpoints
	deliveries *store.Deliveries
	seeding    *endpoint.Service
	clock      *clock.Manual
	receiver   *receiver
}

type receiver struct {
	mu     sync.Mutex
	got    []delivery.Message
	answer func(ctx context.Context) delivery.Answer
}

func (r *receiver) Send(ctx context.Context, m delivery.Message) delivery.Answer {
	r.mu.Lock()
	r.got = append(r.got, m)
	answer := r.answer
	r.mu.Unlock()
	return answer(ctx)
}

func status(code int) func(context.Context) delivery.Answer {
	return func(context.Context) delivery.Answer { return delivery.Answer{StatusCode: &code, Excerpt: "said so"} }
}

func silence(context.Context) delivery.Answer {
	problem := "timeout"
	return delivery.Answer{Error: &problem}
}

type nobody struct{}

func (nobody) Attempted(context.Context, delivery.Delivery, delivery.Attempt) {}

func start(t *testing.T) *rig {
	t.Helper()
	tel := telemetry.Nop()
	db, err := pg.Open(t.Context(), pg.Config{URL: conf.Secret(pgtest.Schema(t)), MaxConns: 6}, "unused", tel)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	require.NoError(t, db.Migrate(t.Context(), outbox.Migrations(), job.Migrations(), store.Migrations()))
	chain, err := op.NewChain(tel, pg.Classify)
	require.NoError(t, err)
	jobs, err := job.New(db, chain, tel)
	require.NoError(t, err)
	box, err := seal.New(secretKey)
	require.NoError(t, err)
	r := &rig{
		t: t, db: db, endpoints: store.NewEndpoints(db, box), deliveries: store.NewDeliveries(db, outbox.New(db, tel), jobs, tel),
		clock: clock.At(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)), receiver: &receiver{answer: status(http.StatusOK)},
	}
	r.restart()
	require.NoError(t, r.OnAgentChanged(t.Context(), event.Received[events.Agent]{Data: events.Agent{AgentID: agentID, Version: 1, FullName: "Asha Rao", Email: "asha@example.com"}}))
	return r
}

// restart makes a new service, as a new process does.
func (r *rig) restart() {
	r.Service = delivery.NewService(delivery.Parts{
		Deliveries: r.deliveries, Endpoints: r.endpoints, Agents: store.NewAgents(r.db), Clients: store.NewClients(r.db), Sender: r.receiver,
		Watcher: nobody{}, Clock: r.clock, Wobble: func() float64 { return 0.5 }, PublicURL: "http://x", Workers: 4,
	})
	r.seeding = endpoint.NewService(r.endpoints, r.Service, r.clock)
}

func (r *rig) seed(url, secret string) int {
	r.t.Helper()
	n, err := r.seeding.Seed(r.t.Context(), url, secret)
	require.NoError(r.t, err)
	return n
}

var agentID = event.NewID()

func (r *rig) event(clientID *string) event.Received[events.Call] {
	r.t.Helper()
	e := events.TranscriptionCompleted.New(r.clock.Now(), events.Call{CallID: event.NewID(), AgentID: agentID, ClientID: clientID, Status: "completed", CallType: "default"})
	received, err := events.TranscriptionCompleted.Decode(e)
	require.NoError(r.t, err)
	return received
}

// deliver hands an event in and returns its delivery.
func (r *rig) deliver(clientID *string) string {
	r.t.Helper()
	e := r.event(clientID)
	require.NoError(r.t, r.OnTranscriptionCompleted(r.t.Context(), e))
	page, err := r.List(r.t.Context(), delivery.Filter{CallID: &e.Data.CallID})
	require.NoError(r.t, err)
	require.Len(r.t, page.Items, 1)
	return page.Items[0].ID
}

func (r *rig) find(id string) delivery.Delivery {
	r.t.Helper()
	d, err := r.deliveries.Find(r.t.Context(), id)
	require.NoError(r.t, err)
	return d
}

// turn does what the worker of the current epoch does.
func (r *rig) turn(id string) delivery.Delivery {
	r.t.Helper()
	require.NoError(r.t, r.Attempt(r.t.Context(), id, r.find(id).Epoch))
	return r.find(id)
}

func (r *rig) answers(with func(context.Context) delivery.Answer) {
	r.receiver.mu.Lock()
	defer r.receiver.mu.Unlock()
	r.receiver.answer = with
}

// jobs are the epochs of the jobs of a delivery, in the order they were made.
func (r *rig) jobs(id string) []int64 {
	return query[int64](r, `select (args->>'epoch')::bigint from river_job where args->>'id' = $1 order by id`, id)
}

func (r *rig) events() []string { return query[string](r, `select type from outbox order by id`) }

func query[T any](r *rig, sql string, args ...any) []T {
	r.t.Helper()
	rows, err := r.db.Pool().Query(r.t.Context(), sql, args...)
	require.NoError(r.t, err)
	defer rows.Close()
	var out []T
	for rows.Next() {
		var v T
		require.NoError(r.t, rows.Scan(&v))
		out = append(out, v)
	}
	require.NoError(r.t, rows.Err())
	return out
}

func TestASuccessIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	r := start(t)
	require.Equal(t, 1, r.seed("https://pabbly.example/hook", "s3cret"))
	id := r.deliver(nil)
	require.Equal(t, []int64{1}, r.jobs(id))
	d := r.turn(id)
	require.Equal(t, delivery.Delivered, d.Status)
	require.Equal(t, r.clock.Now(), *d.DeliveredAt)
	require.Nil(t, d.NextAttemptAt)
	require.Nil(t, d.LeaseUntil)
	require.Equal(t, []string{"webhook.delivered"}, r.events())
	require.Equal(t, "said so", d.Log[0].Excerpt)

	r.turn(id)
	require.Len(t, r.receiver.got, 1, "its turn is over")
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
	for d := r.turn(id); d.Status == delivery.Retrying; d = r.turn(id) {
		require.Equal(t, "status_500", *d.Reason)
		waits = append(waits, d.NextAttemptAt.Sub(r.clock.Now()))
		require.Equal(t, d.Epoch, r.jobs(id)[len(waits)], "each try has a job")
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
	d := r.turn(r.deliver(nil))
	require.Equal(t, 7*time.Minute, d.NextAttemptAt.Sub(r.clock.Now()))
}

func TestGoneDisablesTheEndpointAndHoldsTheRest(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	other, id := r.deliver(nil), r.deliver(nil)
	r.answers(status(http.StatusGone))
	d := r.turn(id)
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
	require.Equal(t, delivery.Delivered, r.turn(other).Status)
	require.Equal(t, delivery.Delivered, r.turn(id).Status)
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
	require.Equal(t, delivery.Held, r.turn(id).Status)
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
	require.Equal(t, delivery.Delivered, r.turn(id).Status)
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
		return errors.New("the inbox could not note it")
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
	// The process dies while it sends: nothing after the send happens any more.
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
	require.Equal(t, int64(1), r.find(id).Epoch, "a lease that runs is not taken away")

	r.clock.Advance(21 * time.Second)
	require.NoError(t, r.Rescue(t.Context()))
	require.Equal(t, []int64{1, 2}, r.jobs(id))
	require.NoError(t, r.Attempt(t.Context(), id, 1))
	require.Len(t, r.receiver.got, 1, "the job of an old epoch does nothing")

	r.answers(status(http.StatusInternalServerError))
	d := r.turn(id)
	require.Equal(t, delivery.Retrying, d.Status)
	require.Len(t, r.receiver.got, 2)
	require.Equal(t, r.receiver.got[0], r.receiver.got[1], "the same event id, the same bytes")

	close(crashed) // the old worker was only stopped: its late result is refused
	old.Wait()
	require.Equal(t, d, r.find(id))
	require.Empty(t, r.events())
}

func TestALateResultDoesNotEndTheLeaseOfTheNextWorker(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	// Two workers, one after the other, each sending until it is let go.
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
	r.clock.Advance(21 * time.Second)
	require.NoError(t, r.Rescue(t.Context()))
	finishNew := worker(2)
	finishOld()
	d := r.find(id)
	require.Equal(t, delivery.Pending, d.Status, "the old worker's result is refused")
	require.NotNil(t, d.LeaseUntil)
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

func TestAProcessThatStopsGivesTheDeliveryBack(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil)
	ctx, stop := context.WithCancel(t.Context())
	r.answers(func(ctx context.Context) delivery.Answer { stop(); return silence(ctx) })
	require.NoError(t, r.Attempt(ctx, id, 1))
	d := r.find(id)
	require.Equal(t, delivery.Pending, d.Status)
	require.Nil(t, d.LeaseUntil)
	require.Equal(t, int64(2), d.Epoch)
	require.Equal(t, r.clock.Now(), *d.NextAttemptAt)
	require.Empty(t, d.Log)
	require.Equal(t, []int64{1, 2}, r.jobs(id))
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

func TestANewProcessDoesNotWaitForJobsOfADeadOne(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	id := r.deliver(nil) // its job was fetched by a process that died before it took the delivery
	require.NoError(t, r.Rescue(t.Context()))
	require.Equal(t, []int64{1}, r.jobs(id))
	r.clock.Advance(time.Second)
	r.restart()
	require.NoError(t, r.Rescue(t.Context()))
	require.NoError(t, r.Rescue(t.Context()))
	require.Equal(t, []int64{1, 2}, r.jobs(id), "once")
}

func TestAPayloadWaitsForThePeopleItNames(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	clientID := event.NewID()
	id := r.deliver(&clientID)
	d := r.turn(id)
	require.Equal(t, delivery.Pending, d.Status)
	require.Equal(t, time.Second, d.NextAttemptAt.Sub(r.clock.Now()))
	require.Nil(t, d.Body)
	require.Empty(t, r.receiver.got)

	name := "Meera Nair"
	require.NoError(t, r.OnClientChanged(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: clientID, Version: 1, Name: name}}))
	r.answers(status(http.StatusBadGateway))
	r.turn(id)
	require.Equal(t, name, r.sent(0)["client_name"])

	require.NoError(t, r.OnClientDeleted(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: clientID, Version: 3}}))
	require.NoError(t, r.OnClientChanged(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: clientID, Version: 2, Name: name}}))
	require.Equal(t, []*string{nil}, query[*string](r, `select name from clients`), "erased, and an older event does not bring it back")
	r.turn(id)
	require.Equal(t, r.receiver.got[0], r.receiver.got[1], "what was sent once is sent again")

	later := r.deliver(&clientID)
	require.Equal(t, delivery.Retrying, r.turn(later).Status, "an erased client is not waited for")
	require.Nil(t, r.sent(2)["client_name"])
}

func TestAPayloadWaitsThirtySecondsAtMost(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	clientID := event.NewID()
	id := r.deliver(&clientID)
	r.clock.Advance(29 * time.Second)
	require.Equal(t, delivery.Pending, r.turn(id).Status)
	r.clock.Advance(time.Second)
	require.Equal(t, delivery.Delivered, r.turn(id).Status)
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
	third := r.turn(r.deliver(nil))
	require.Equal(t, delivery.Pending, third.Status)
	require.Equal(t, time.Second, third.NextAttemptAt.Sub(r.clock.Now()))
	require.Zero(t, third.Attempts)
	close(release)
	workers.Wait()
	r.answers(status(http.StatusOK))
	require.Equal(t, delivery.Delivered, r.turn(third.ID).Status)
}

func TestSecretsAreSealedAtRest(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	for _, row := range query[string](r, `select encode(url, 'escape') || encode(secrets, 'escape') from endpoints`) {
		require.NotContains(t, row, "pabbly")
		require.NotContains(t, row, "s3cret")
	}
	other, err := seal.New("another-key-another-key-another-key")
	require.NoError(t, err)
	_, err = store.NewEndpoints(r.db, other).List(t.Context())
	require.ErrorIs(t, err, seal.ErrOpen)
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
	r.turn(ids[2])
	list := func(f delivery.Filter) (out []string, next string) {
		page, err := r.List(t.Context(), f)
		require.NoError(t, err)
		for _, d := range page.Items {
			out = append(out, d.ID)
		}
		return out, page.Next
	}
	first, next := list(delivery.Filter{Limit: 2})
	require.Equal(t, []string{ids[4], ids[3]}, first)
	second, next := list(delivery.Filter{Limit: 2, Cursor: next})
	require.Equal(t, []string{ids[2], ids[1]}, second)
	last, next := list(delivery.Filter{Limit: 2, Cursor: next})
	require.Equal(t, []string{ids[0]}, last)
	require.Empty(t, next)

	done, event, other := delivery.Delivered, "transcription.completed", "followup.scheduled"
	from, to := r.clock.Now().Add(-4*time.Minute), r.clock.Now().Add(-2*time.Minute)
	for name, tt := range map[string]struct {
		filter delivery.Filter
		want   []string
	}{
		"status": {delivery.Filter{Status: &done}, []string{ids[2]}},
		"event":  {delivery.Filter{Event: &event, Skip: 3}, []string{ids[1], ids[0]}},
		"other":  {delivery.Filter{Event: &other}, nil},
		"time":   {delivery.Filter{From: &from, To: &to}, []string{ids[2], ids[1]}},
	} {
		got, _ := list(tt.filter)
		require.Equal(t, tt.want, got, name)
	}
	_, err := r.List(t.Context(), delivery.Filter{Cursor: "rubbish"})
	require.True(t, fault.Is(err, fault.Invalid))
	_, err = r.Get(t.Context(), delivery.IDRequest{ID: event.NewID()})
	require.True(t, fault.Is(err, fault.NotFound))
	backlog, err := r.deliveries.ListBacklog(t.Context())
	require.NoError(t, err)
	require.Len(t, backlog, 1)
	require.Equal(t, int64(4), backlog[0].Count)
}

func TestAFollowUpIsDeliveredToo(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	e := events.FollowUpScheduled.New(r.clock.Now(), events.FollowUp{FollowUpID: event.NewID(), CallID: event.NewID(), AgentID: agentID, DueDate: r.clock.Now()})
	received, err := events.FollowUpScheduled.Decode(e)
	require.NoError(t, err)
	require.NoError(t, r.OnFollowUpScheduled(t.Context(), received))
	ids := query[string](r, `select id::text from deliveries`)
	d := r.turn(ids[0])
	require.Equal(t, delivery.Delivered, d.Status)
	require.Equal(t, received.Data.CallID, *d.CallID)
	require.Equal(t, "followup.scheduled", r.receiver.got[0].Event)
}
