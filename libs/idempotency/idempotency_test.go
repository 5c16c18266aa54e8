package idempotency_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type service struct {
	db    *pg.DB
	store *idempotency.Store
}

func start(t *testing.T) service {
	t.Helper()
	db := pgtest.Open(t, idempotency.Migrations())
	_, err := db.Pool().Exec(t.Context(), `create table things (id bigint generated always as identity, name text)`)
	require.NoError(t, err)
	return service{db, idempotency.New(db)}
}

func caller(ctx context.Context) context.Context {
	return identity.With(ctx, identity.Caller{AgentID: event.NewID(), Role: identity.Agent})
}

// create creates a thing. Its response is JSON that jsonb would reformat.
func (s service) create(ctx context.Context, key, name string) (json.RawMessage, error) {
	return s.store.Once(ctx, "things.create", key, []byte(name), func(ctx context.Context) (json.RawMessage, error) {
		var id string
		err := s.db.Conn(ctx).QueryRow(ctx, `insert into things (name) values ($1) returning id::text`, name).Scan(&id)
		return json.RawMessage(`{"z":1.0, "name":"` + name + `","id":` + id + `}`), err
	})
}

func (s service) things(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, s.db.Pool().QueryRow(t.Context(), `select count(*) from things`).Scan(&n))
	return n
}

func TestARepeatedRequestGetsTheSameResponse(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx := caller(t.Context())
	first, err := s.create(ctx, "k", "a")
	require.NoError(t, err)
	again, err := s.create(ctx, "k", "a")
	require.NoError(t, err)
	require.Equal(t, string(first), string(again), "byte for byte")
	require.Equal(t, 1, s.things(t))

	_, err = s.create(ctx, "k", "b")
	require.Equal(t, "idempotency_key_reused", fault.Of(err).Code)
	require.Equal(t, 409, fault.Status(err))
	require.Equal(t, 1, s.things(t))

	for _, other := range []func() (json.RawMessage, error){
		func() (json.RawMessage, error) { return s.create(ctx, "another key", "a") },
		func() (json.RawMessage, error) { return s.create(caller(t.Context()), "k", "b") },
		func() (json.RawMessage, error) {
			return s.store.Once(ctx, "another operation", "k", []byte("b"), func(ctx context.Context) (json.RawMessage, error) {
				_, err := s.db.Conn(ctx).Exec(ctx, `insert into things default values`)
				return json.RawMessage(`{}`), err
			})
		},
	} {
		got, err := other()
		require.NoError(t, err)
		require.NotEqual(t, string(first), string(got))
	}
	require.Equal(t, 4, s.things(t), "a different key, agent or operation is a different request")
}

func TestConcurrentRequestsAreExecutedOnceAndGetOneResponse(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx := caller(t.Context())
	var wg sync.WaitGroup
	answers := make(chan string, 8)
	for range cap(answers) {
		wg.Go(func() {
			answer, err := s.create(ctx, "k", "a")
			if err != nil {
				t.Error(err)
			}
			answers <- string(answer)
		})
	}
	wg.Wait()
	first := <-answers
	for range cap(answers) - 1 {
		require.Equal(t, first, <-answers)
	}
	require.Equal(t, 1, s.things(t))
}

func TestAFailureIsNotStored(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx := caller(t.Context())
	failure := errors.New("database unavailable")
	_, err := s.store.Once(ctx, "things.create", "k", []byte("a"), func(ctx context.Context) (json.RawMessage, error) {
		_, err := s.db.Conn(ctx).Exec(ctx, `insert into things default values`)
		require.NoError(t, err)
		return nil, failure
	})
	require.ErrorIs(t, err, failure)
	require.Zero(t, s.things(t), "the change is rolled back")
	_, err = s.create(ctx, "k", "corrected")
	require.NoError(t, err, "the key can be used again, also for a corrected request")
	require.Equal(t, 1, s.things(t))
}

func TestARequestWaitsForAConcurrentOneThatFails(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx := caller(t.Context())
	inside, fail := make(chan struct{}), make(chan error)
	first := make(chan error, 1)
	go func() {
		_, err := s.store.Once(ctx, "things.create", "k", []byte("a"), func(context.Context) (json.RawMessage, error) { close(inside); return nil, <-fail })
		first <- err
	}()
	<-inside
	second := make(chan error, 1)
	go func() {
		_, err := s.create(ctx, "k", "a")
		second <- err
	}()
	require.Eventually(t, func() bool {
		var waiting bool
		err := s.db.Pool().QueryRow(t.Context(), `select exists (select from pg_stat_activity where usename = current_user and wait_event_type = 'Lock')`).Scan(&waiting)
		return err == nil && waiting
	}, time.Minute, 5*time.Millisecond)
	fail <- errors.New("database unavailable")
	require.Error(t, <-first)
	require.NoError(t, <-second)
	require.Equal(t, 1, s.things(t))
}

func TestAKeyExpiresAfterADay(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx := caller(t.Context())
	age := func(hours int) {
		_, err := s.db.Pool().Exec(t.Context(), `update idempotency set created_at = now() - make_interval(hours => $1)`, hours)
		require.NoError(t, err)
	}
	_, err := s.create(ctx, "k", "a")
	require.NoError(t, err)
	age(23)
	_, err = s.create(ctx, "k", "b")
	require.True(t, fault.Is(err, fault.Conflict))
	age(25)
	answer, err := s.create(ctx, "k", "b")
	require.NoError(t, err, "an expired key can be used again")
	again, err := s.create(ctx, "k", "b")
	require.NoError(t, err)
	require.Equal(t, string(answer), string(again))
	require.Equal(t, 2, s.things(t))

	age(25)
	_, err = s.create(ctx, "fresh", "c")
	require.NoError(t, err)
	sweeping, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.store.Sweep(telemetry.Nop()).Run(sweeping) }()
	require.Eventually(t, func() bool {
		var keys string
		err := s.db.Pool().QueryRow(t.Context(), `select string_agg(key, ',') from idempotency`).Scan(&keys)
		return err == nil && keys == "fresh"
	}, time.Minute, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

func TestInvalidKeys(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx := caller(t.Context())
	for _, key := range []string{strings.Repeat("k", 256), "\xff"} {
		_, err := s.create(ctx, key, "a")
		require.Equal(t, []any{"header", "Idempotency-Key"}, fault.Of(err).Fields[0].Loc)
	}
	_, err := s.create(ctx, strings.Repeat("ü", 255), "a")
	require.NoError(t, err, "the limit counts characters")
	_, err = s.create(t.Context(), "k", "a")
	require.True(t, fault.Is(err, fault.Unauthenticated), "a key belongs to a caller")
}
