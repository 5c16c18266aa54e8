package service_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/event/eventtest"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const document = `{"paths": {
	"/things": {"post": {"operationId": "things.create", "x-access": "agent"}},
	"/open": {"get": {"operationId": "things.open", "x-access": "anyone"}}}}`

// contract is a contract in which a changed thing ends the session with the thing's name.
func contract() service.Contract {
	return service.Contract{Name: "things", OpenAPI: func() ([]byte, error) { return []byte(document), nil }, Topics: eventtest.Topics(), Sessions: access.Feed{
		Topic: eventtest.ThingsTopic,
		Watch: func(w *bus.Watcher, sessionEnded func(string), _ func(string, int64, bool)) {
			bus.Watch(w, eventtest.ThingChanged, func(e event.Received[eventtest.Thing]) { sessionEnded(e.Data.Name) })
		},
	}}
}

type nothing struct{}

// The request publishes an event, and the event's handler inserts a job.
func TestTheCommonPartsWorkTogether(t *testing.T) {
	t.Parallel()
	const kind job.Kind = "things.work"
	w := servicetest.New(t, contract())
	jobs := make(chan string, 10)
	w.Start(func(ctx context.Context, tel telemetry.Set) (_ *service.App, err error) {
		base, err := service.Open(ctx, contract(), w.Config, tel)
		if err != nil {
			return nil, err
		}
		defer base.CloseIf(&err)
		base.Jobs.Handle(kind, job.Limits{Workers: 1, Timeout: time.Minute}, func(_ context.Context, a job.Args) error {
			jobs <- a.ID
			return nil
		})
		bus.On(base.Consumer, func(ctx context.Context, e event.Received[eventtest.Thing]) error {
			return base.Jobs.Insert(ctx, kind, e.Data.ID, lease.New())
		}, eventtest.ThingChanged)
		rpc.Handle(base.Router, "POST /things", "things.create", func(ctx context.Context, _ nothing) (nothing, error) {
			return nothing{}, base.Outbox.Append(ctx, eventtest.ThingChanged.New(base.Clock.Now(), eventtest.Thing{ID: "a thing", Name: "a session"}))
		}, rpc.Idempotent())
		rpc.Handle(base.Router, "GET /open", "things.open", func(context.Context, nothing) (nothing, error) { return nothing{}, nil })
		return base.App()
	})
	caller := w.Caller(identity.Agent)
	w.Do(identity.Caller{}, "POST", "/things", "").Fails(http.StatusUnauthorized, "not_authenticated")
	w.Get(identity.Caller{}, "/open").Is(http.StatusOK)
	for range 2 {
		w.Do(caller, "POST", "/things", "", "Idempotency-Key", "once").Is(http.StatusOK)
	}
	require.Equal(t, "a thing", <-jobs)
	require.Equal(t, map[string][]string{"a thing": {"thing.changed 0"}}, w.Published(eventtest.ThingsTopic, 1))

	ended := caller
	ended.SessionID = event.NewID()
	w.Do(ended, "POST", "/things", "").Is(http.StatusOK)
	w.Publish(eventtest.ThingChanged.New(time.Now(), eventtest.Thing{ID: "end", Name: ended.SessionID}))
	w.Await("the service refuses the ended session", func() bool {
		return w.Do(ended, "POST", "/things", "").Status == http.StatusUnauthorized
	})
}

// Kafka is unavailable from the start on: the service asks auth which sessions have ended.
func TestAServiceThatStartsWithoutKafkaServes(t *testing.T) {
	t.Parallel()
	w := servicetest.New(t, contract())
	w.Config.Kafka.Brokers = []string{"127.0.0.1:1"}
	caller, ended := w.Caller(identity.Agent), w.Caller(identity.Agent)
	var down atomic.Bool
	down.Store(true)
	w.Config.Access.AuthURL = w.Auth(func(l *access.Revocations) bool {
		l.Entries = []access.Revocation{{ID: ended.SessionID, Revoked: true}}
		return !down.Load()
	})
	w.Begin(func(ctx context.Context, tel telemetry.Set) (_ *service.App, err error) {
		base, err := service.Open(ctx, contract(), w.Config, tel)
		if err != nil {
			return nil, err
		}
		defer base.CloseIf(&err)
		rpc.Handle(base.Router, "POST /things", "things.create", func(context.Context, nothing) (nothing, error) { return nothing{}, nil })
		rpc.Handle(base.Router, "GET /open", "things.open", func(context.Context, nothing) (nothing, error) { return nothing{}, nil })
		return base.App()
	})
	w.Await("the service answers", func() bool { return w.Get(identity.Caller{}, "/open").Status == http.StatusOK })
	w.Await("it knows the keys and no ended session", func() bool {
		return w.Do(caller, "POST", "/things", "").Status == http.StatusServiceUnavailable
	})
	w.Do(caller, "POST", "/things", "").Fails(http.StatusServiceUnavailable, "auth_unavailable")
	w.Get(identity.Caller{}, "/ready").Is(http.StatusServiceUnavailable)

	down.Store(false)
	w.Await("the service is ready", func() bool { return w.Get(identity.Caller{}, "/ready").Status == http.StatusOK })
	w.Do(caller, "POST", "/things", "").Is(http.StatusOK)
	w.Do(ended, "POST", "/things", "").Fails(http.StatusUnauthorized, "session_ended")
}

func TestAServiceThatCannotStartClosesItsConnections(t *testing.T) {
	t.Parallel()
	w := servicetest.New(t, contract())
	open := func(change func(*service.Config, *service.Base)) error {
		cfg := w.Config
		change(&cfg, nil)
		base, err := service.Open(t.Context(), contract(), cfg, telemetry.Nop())
		if err != nil {
			return err
		}
		defer base.CloseIf(&err)
		change(&cfg, base)
		_, err = base.App()
		return err
	}
	require.ErrorContains(t, open(func(*service.Config, *service.Base) {}), "operation things.create is in the contract and has no route")
	require.ErrorContains(t, open(func(cfg *service.Config, _ *service.Base) { cfg.Access = nil }), "nor an authenticator")
	unreadable := contract()
	unreadable.OpenAPI = func() ([]byte, error) { return nil, errors.New("no document") }
	_, err := service.Open(t.Context(), unreadable, w.Config, telemetry.Nop())
	require.ErrorContains(t, err, "no document")
	role, watcher := user(t, w), pgtest.Open(t)
	w.Await("all connections are closed", func() bool {
		return pgtest.Column[int](t, watcher, `select count(*)::int from pg_stat_activity where usename = $1`, role)[0] == 0
	})
}

// user returns the database role of the service.
func user(t *testing.T, w *servicetest.World) string {
	t.Helper()
	base, err := service.Open(t.Context(), contract(), w.Config, telemetry.Nop())
	require.NoError(t, err)
	name := pgtest.Column[string](t, base.DB, `select current_user::text`)[0]
	failed := context.Canceled
	base.CloseIf(&failed)
	return name
}

func TestInvalidSettingsStartNothing(t *testing.T) {
	t.Parallel()
	_, err := service.Open(t.Context(), contract(), service.Defaults(), telemetry.Nop())
	var wrong *conf.Error
	require.ErrorAs(t, err, &wrong)
	require.Len(t, wrong.Problems, 3, "DATABASE_URL, KAFKA_BROKERS, AUTH_URL: %v", wrong.Problems)
}
