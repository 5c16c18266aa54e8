package delivery_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
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

// rig is the service and the dispatcher of one process with their real store, a stopped clock and a scripted receiver. What is due is
// decided by the database's clock. The loop of the dispatcher does not run: a test runs its rounds.
type rig struct {
	began time.Time // when the last attempt did, by the database's clock
	*delivery.Service
	*delivery.Dispatcher
	t         *testing.T
	db        *pg.DB
	endpoints endpoint.Store
	seeding   *endpoint.Service
	clock     *clock.Manual
	receiver  *receiver
}

type receiver struct {
	mu     sync.Mutex
	got    []delivery.Message
	answer func(ctx context.Context) delivery.Answer
	to     map[string]func(ctx context.Context) delivery.Answer // of other URLs
}

func (r *receiver) Send(ctx context.Context, m delivery.Message) (delivery.Answer, error) {
	if err := network.Check(ctx); err != nil {
		return delivery.Answer{}, err
	}
	r.mu.Lock()
	r.got = append(r.got, m)
	answer := r.answer
	if special, ok := r.to[m.URL]; ok {
		answer = special
	}
	r.mu.Unlock()
	return answer(ctx), nil
}

func (r *receiver) requests() []delivery.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
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

func start(t *testing.T) *rig {
	t.Helper()
	return on(t, pgtest.Open(t, outbox.Migrations(), job.Migrations(), store.Migrations()))
}

func on(t *testing.T, db *pg.DB) *rig {
	t.Helper()
	tel := telemetry.Nop()
	box, err := seal.New(secretKey, "", "test")
	require.NoError(t, err)
	out := outbox.New(db, tel)
	deliveries, endpoints := store.Deliveries(db, out, tel), store.Endpoints(db, out, box)
	r := &rig{
		t: t, db: db, endpoints: endpoints,
		clock: clock.At(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)), receiver: &receiver{answer: status(http.StatusOK)},
	}
	renderer := delivery.Renderer{Agents: store.Agents(db), Clients: store.Clients(db), Leads: store.Leads(db), Clock: r.clock, PublicURL: "http://x"}
	r.Dispatcher = &delivery.Dispatcher{
		Queue: deliveries, Endpoints: endpoints, Renderer: &renderer, Sender: r.receiver, Observer: nobody{}, Log: tel.Log, InTx: db.InTx,
		Attempt: func(ctx context.Context, _ delivery.Delivery, do func(context.Context) (bool, error)) error {
			_, err := do(ctx)
			return err
		},
		Jitter: func() float64 { return 0.5 }, Holder: "test/1", Workers: 4,
	}
	r.Service = &delivery.Service{
		Deliveries: deliveries, Endpoints: endpoints, Erasures: store.Erasures(db, out), Renderer: renderer, Sender: r.receiver,
		Wake: func(ctx context.Context) { db.AfterCommit(ctx, r.Dispatcher.Wake) },
	}
	r.Disabled = r.EndpointDisabled
	r.seeding = &endpoint.Service{Endpoints: endpoints, Deliveries: r.Service, CheckURL: func(string) error { return nil }, Clock: r.clock}
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
	d, err := r.Deliveries.Find(r.t.Context(), id)
	require.NoError(r.t, err)
	return d
}

// once runs a round of the dispatcher.
func (r *rig) once() {
	r.t.Helper()
	_, err := r.Once(r.t.Context())
	require.NoError(r.t, err)
}

// attempt lets the time pass until a delivery is due, and sends what is due.
func (r *rig) attempt(id string) delivery.Delivery {
	r.t.Helper()
	require.NoError(r.t, r.db.Pool().QueryRow(r.t.Context(), `select clock_timestamp()`).Scan(&r.began))
	if in := r.find(id).NextAttemptIn; in != nil && *in > 0 {
		r.pass(*in)
	}
	r.once()
	return r.find(id)
}

// pass lets time pass, for the service and for the database.
func (r *rig) pass(d time.Duration) {
	r.t.Helper()
	r.clock.Advance(d)
	r.exec(`update deliveries set next_attempt_at = next_attempt_at - $1::interval, lease_until = lease_until - $1::interval`, d)
	r.exec(`update endpoints set failing_since = failing_since - $1::interval, next_probe_at = next_probe_at - $1::interval, next_send_at = next_send_at - $1::interval`, d)
}

func (r *rig) exec(sql string, args ...any) {
	r.t.Helper()
	_, err := r.db.Pool().Exec(r.t.Context(), sql, args...)
	require.NoError(r.t, err)
}

// shown is the status of a delivery as people see it, with its reason.
func (r *rig) shown(id string) string {
	r.t.Helper()
	status, reason := r.find(id).Shown()
	if reason == nil {
		return string(status)
	}
	return string(status) + " " + *reason
}

func (r *rig) answers(with func(context.Context) delivery.Answer) {
	r.receiver.mu.Lock()
	defer r.receiver.mu.Unlock()
	r.receiver.answer = with
}

// waits requires that the attempt before planned the next one for exactly so long from then, and returns what is left of it. The clock of
// the database is not virtual, so "then" is between the begin of that attempt and now.
func (r *rig) waits(id string, planned time.Duration) (left time.Duration) {
	r.t.Helper()
	d := r.find(id)
	require.LessOrEqual(r.t, *d.NextAttemptIn, planned)
	require.GreaterOrEqual(r.t, d.NextAttemptAt.Sub(r.began), planned)
	return *d.NextAttemptIn
}

// expire makes the lease of a delivery expire a moment ago.
func (r *rig) expire(id string) {
	r.t.Helper()
	r.exec(`update deliveries set lease_until = now() - interval '1 millisecond' where id = $1 and lease_holder is not null`, id)
}

// endpoint returns the only endpoint.
func (r *rig) endpoint() endpoint.Endpoint {
	r.t.Helper()
	all, err := r.endpoints.List(r.t.Context())
	require.NoError(r.t, err)
	require.Len(r.t, all, 1)
	return all[0]
}

// change changes the only endpoint.
func (r *rig) change(fn func(*endpoint.Endpoint)) {
	r.t.Helper()
	_, err := r.endpoints.Change(r.t.Context(), r.endpoint().ID, func(e *endpoint.Endpoint) ([]event.Event, error) { fn(e); return nil, nil })
	require.NoError(r.t, err)
}

// pause disables the only endpoint, as an admin does.
func (r *rig) pause() {
	r.t.Helper()
	_, err := r.seeding.Update(r.t.Context(), endpoint.UpdateRequest{ID: r.endpoint().ID, Enabled: new(false)})
	require.NoError(r.t, err)
}

// enable enables it.
func (r *rig) enable() {
	r.t.Helper()
	_, err := r.seeding.Update(r.t.Context(), endpoint.UpdateRequest{ID: r.endpoint().ID, Enabled: new(true)})
	require.NoError(r.t, err)
}

func (r *rig) events() []string { return query[string](r, `select type from outbox order by id`) }

func query[T any](r *rig, sql string, args ...any) []T {
	r.t.Helper()
	return pgtest.Column[T](r.t, r.db, sql, args...)
}

func (r *rig) sent(i int) map[string]any {
	r.t.Helper()
	var fields map[string]any
	require.NoError(r.t, json.Unmarshal(r.receiver.got[i].Body, &fields))
	return fields
}
