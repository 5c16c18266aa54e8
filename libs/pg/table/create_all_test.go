package table_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/event/eventtest"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/pg/table"
)

func TestCreateAllLeavesOutRowsThatExist(t *testing.T) {
	t.Parallel()
	var recorded []string
	s := open(t, func(spec *table.Spec[thing]) {
		spec.From, spec.Save = "", nil
		spec.Columns = func(x *thing) table.Columns {
			return table.Columns{table.Fixed("id", &x.ID), table.Col("name", &x.Name), table.Col("rank", &x.Rank), table.Fixed("created_at", &x.CreatedAt)}
		}
		spec.Record = func(_ context.Context, changes []table.Change[thing]) error {
			for _, c := range changes {
				require.Nil(t, c.Before)
				recorded = append(recorded, c.After.Name)
			}
			return nil
		}
	})
	rows := make([]thing, 300)
	for i := range rows {
		rows[i] = thing{ID: event.NewID(), Name: fmt.Sprintf("%03d \"€\n", i), Rank: int64(i), CreatedAt: at}
	}
	events := func(x *thing) []event.Event {
		return []event.Event{eventtest.ThingChanged.New(at, eventtest.Thing{ID: x.ID, Name: x.Name})}
	}
	created, err := s.CreateAll(t.Context(), rows[:100], events)
	require.NoError(t, err)
	require.Len(t, created, 100)
	rows[250].Name = rows[0].Name // another row has the name
	created, err = s.CreateAll(t.Context(), rows[99:], events)
	require.NoError(t, err)
	require.Len(t, created, 199)
	require.Equal(t, []int{299, 299, 299}, []int{
		pgtest.Column[int](t, s.db, `select count(*)::int from things`)[0], pgtest.Column[int](t, s.db, `select count(*)::int from outbox`)[0], len(recorded),
	})
	got, err := s.Find(t.Context(), rows[200].ID)
	require.NoError(t, err)
	require.Equal(t, rows[200], got)
	created, err = s.CreateAll(t.Context(), nil, events)
	require.NoError(t, err)
	require.Empty(t, created)
}
