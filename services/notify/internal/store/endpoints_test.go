package store_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/seal"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
	"github.com/convoflow/convoflow/services/notify/internal/store"
)

func TestAllFieldsOfAnEndpointAreStored(t *testing.T) {
	t.Parallel()
	s := open(t)
	e := newEndpoint(endpoint.Environment)
	e.CreatedAt = at(1)
	require.NoError(t, s.endpoints.Create(t.Context(), e))
	got, err := s.endpoints.Find(t.Context(), e.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(e, got))

	changed, err := s.endpoints.Change(t.Context(), e.ID, func(e *endpoint.Endpoint) ([]event.Event, error) {
		require.Equal(t, got, *e)
		e.URL, e.Secrets, e.Events, e.Profile = "https://pabbly.example/moved", []string{"another s3cret"}, []string{"a", "b"}, endpoint.Standard
		e.Disable(endpoint.Gone, at(9))
		return nil, nil
	})
	require.NoError(t, err)
	require.Equal(t, "https://pabbly.example/moved", changed.URL)
	got, err = s.endpoints.Find(t.Context(), e.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(changed, got))

	_, err = s.endpoints.Change(t.Context(), e.ID, func(e *endpoint.Endpoint) ([]event.Event, error) {
		e.URL = "https://refused.example"
		return nil, errStop
	})
	require.ErrorIs(t, err, errStop)
	all, err := s.endpoints.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, s.endpointID, all[0].ID, "oldest first")
	require.Empty(t, cmp.Diff(got, all[1]), "what was refused changed nothing")

	_, err = s.endpoints.Find(t.Context(), event.NewID())
	require.Equal(t, "webhook_not_found", fault.Of(err).Code)
	_, err = s.endpoints.Change(t.Context(), event.NewID(), func(*endpoint.Endpoint) ([]event.Event, error) { return nil, nil })
	require.Equal(t, "webhook_not_found", fault.Of(err).Code)
}

func TestReplicasThatStartTogetherMakeOneEndpoint(t *testing.T) {
	t.Parallel()
	s := open(t)
	var g errgroup.Group
	for range 8 {
		g.Go(func() error { return s.endpoints.Create(t.Context(), newEndpoint(endpoint.Environment)) })
	}
	require.NoError(t, g.Wait())
	require.Equal(t, int64(1), s.count(`select count(*) from endpoints where origin = 'environment'`))
	require.NoError(t, s.endpoints.Create(t.Context(), newEndpoint(endpoint.API)), "of those made with the API there may be more")
	require.Equal(t, int64(2), s.count(`select count(*) from endpoints where origin = 'api'`))
}

func TestURLsAndSecretsAreInNoColumn(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.create()
	_, err := s.endpoints.Change(t.Context(), s.endpointID, func(e *endpoint.Endpoint) ([]event.Event, error) { e.UpdatedAt = at(1); return nil, nil })
	require.NoError(t, err)
	tables := pgtest.Column[string](t, s.db, `select table_name from information_schema.tables where table_schema = current_schema()`)
	require.Subset(t, tables, []string{"endpoints", "deliveries", "outbox"})
	for _, name := range tables {
		for _, row := range pgtest.Column[string](t, s.db, `select x::text from `+name+` x`) {
			for _, plain := range []string{"pabbly.example", "hush-hush", "s3cret"} {
				require.NotContains(t, row, plain, name)
				require.NotContains(t, strings.ToLower(row), hex.EncodeToString([]byte(plain)), "%s, in a column of bytes", name)
			}
		}
	}
}

func TestSealedColumnsOpenOnlyWithTheirKeyAndRow(t *testing.T) {
	t.Parallel()
	s := open(t)
	box, err := seal.New("another-key-another-key-another-key", "", "test")
	require.NoError(t, err)
	other := store.Endpoints(s.db, outbox.New(s.db, s.tel), box)
	_, err = other.List(t.Context())
	require.ErrorIs(t, err, seal.ErrOpen)
	_, err = other.Find(t.Context(), s.endpointID)
	require.ErrorIs(t, err, seal.ErrOpen)
	_, err = other.Change(t.Context(), s.endpointID, func(*endpoint.Endpoint) ([]event.Event, error) { t.Error("it was opened"); return nil, nil })
	require.ErrorIs(t, err, seal.ErrOpen)

	second := newEndpoint(endpoint.API)
	require.NoError(t, s.endpoints.Create(t.Context(), second))
	_, err = s.db.Pool().Exec(t.Context(), `update endpoints set url = (select url from endpoints where id = $2) where id = $1`, second.ID, s.endpointID)
	require.NoError(t, err)
	_, err = s.endpoints.Find(t.Context(), second.ID)
	require.ErrorIs(t, err, seal.ErrOpen, "moved to another row")
}

func TestResealNeedsThePreviousSecretOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	const fresh = "another-key-another-key-another-key"
	before, err := s.endpoints.Find(t.Context(), s.endpointID)
	require.NoError(t, err)
	both, err := seal.New(fresh, secretKey, "test")
	require.NoError(t, err)
	for want := 1; want >= 0; want-- {
		resealed, all, err := store.Endpoints(s.db, outbox.New(s.db, s.tel), both).Reseal(t.Context())
		require.NoError(t, err)
		require.Equal(t, [2]int{want, 1}, [2]int{resealed, all})
	}
	after, err := seal.New(fresh, "", "test")
	require.NoError(t, err)
	got, err := store.Endpoints(s.db, outbox.New(s.db, s.tel), after).Find(t.Context(), s.endpointID)
	require.NoError(t, err)
	require.Equal(t, before, got)
	former, err := seal.New(secretKey, "", "test")
	require.NoError(t, err)
	_, _, err = store.Endpoints(s.db, outbox.New(s.db, s.tel), former).Reseal(t.Context())
	require.ErrorIs(t, err, seal.ErrOpen)
}

// copyIsGuarded stores versions of one copy out of order.
func copyIsGuarded[T any](t *testing.T, copies copies.Store[T], version func(int64) T, id string) {
	t.Helper()
	_, ok, err := copies.Find(t.Context(), id)
	require.NoError(t, err)
	require.False(t, ok)
	for _, step := range []struct{ stored, want int64 }{{2, 2}, {1, 2}, {2, 2}, {4, 4}, {3, 4}} {
		require.NoError(t, copies.Upsert(t.Context(), version(step.stored)))
		got, ok, err := copies.Find(t.Context(), id)
		require.NoError(t, err)
		require.True(t, ok)
		require.Empty(t, cmp.Diff(version(step.want), got))
	}
}

func TestCopiesIgnoreOlderVersions(t *testing.T) {
	t.Parallel()
	s, id := open(t), event.NewID()
	copyIsGuarded(t, store.Agents(s.db), func(v int64) delivery.Agent {
		return delivery.Agent{ID: id, Version: v, Name: fmt.Sprint("Asha ", v), Email: fmt.Sprint("asha@", v)}
	}, id)
	copyIsGuarded(t, store.Clients(s.db), func(v int64) delivery.Client {
		if v == 4 {
			return delivery.Client{ID: id, Version: v} // erased
		}
		return delivery.Client{ID: id, Version: v, Name: new(fmt.Sprint("Meera ", v)), Phone: new("+91"), Email: new("meera@")}
	}, id)
	copyIsGuarded(t, store.Leads(s.db), func(v int64) delivery.Lead {
		return delivery.Lead{ID: id, Version: v, Name: new(fmt.Sprint("Priya ", v)), Phone: new("+91")}
	}, id)
	require.Equal(t, []*string{nil}, pgtest.Column[*string](t, s.db, `select name from clients`), "an older event does not bring an erased client back")
}
