package table_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// timed is a row with the kinds of columns that are converted when many are written at once, and a trace of its own.
type timed struct {
	ID    string
	Bytes []byte
	Left  *time.Duration
	Trace map[string]string
}

const parent = "00-4bf92f3577b34da6a3ce929d0e0e473%d-00f067aa0ba902b7-01"

func TestManyRowsWithBytesTimesAndTraces(t *testing.T) {
	t.Parallel()
	tel := telemetry.Nop()
	db := pgtest.Open(t, outbox.Migrations())
	_, err := db.Pool().Exec(t.Context(), `create table timed (id uuid primary key, bytes bytea, ends_at timestamptz, trace jsonb not null)`)
	require.NoError(t, err)
	rows := table.New(db, outbox.New(db, tel), table.Spec[timed]{
		Name: "timed",
		Columns: func(x *timed) table.Columns {
			return table.Columns{table.Fixed("id", &x.ID), table.Col("bytes", &x.Bytes), table.Remaining("ends_at", &x.Left), table.Fixed("trace", &x.Trace)}
		},
		Missing: func() error { return errors.New("missing") },
		Context: func(ctx context.Context, x *timed) context.Context { return tel.Extract(ctx, x.Trace) },
	})
	raw := []byte{0, '\\', '"', 0xff, 'x'}
	made := []timed{{ID: event.NewID(), Bytes: raw, Left: new(time.Hour)}, {ID: event.NewID()}, {ID: event.NewID(), Bytes: []byte{}}}
	for i := range made {
		made[i].Trace = map[string]string{"traceparent": fmt.Sprintf(parent, i)}
	}
	publish := func(x *timed) []event.Event {
		return []event.Event{{ID: event.NewID(), Type: "x", Topic: "t", Key: x.ID, Time: time.Unix(0, 0), Data: []byte("{}")}}
	}
	_, err = rows.CreateAll(t.Context(), made, publish)
	require.NoError(t, err)
	ends := pgtest.Column[*time.Time](t, db, `select ends_at from timed order by id`)

	var w table.Where
	w.And("ends_at is null or ends_at > now()")
	changed, err := rows.ChangeWhere(t.Context(), w, "order by id limit 2 for no key update skip locked", func(x *timed) (table.Outcome, []event.Event, error) {
		x.Bytes = append(x.Bytes, 'y')
		return table.Write, publish(x), nil
	})
	require.NoError(t, err)
	require.Len(t, changed, 2)
	for i, want := range [][]byte{append(raw, 'y'), {'y'}, {}} {
		got, err := rows.Find(t.Context(), made[i].ID)
		require.NoError(t, err)
		require.Equal(t, want, got.Bytes)
		traces := pgtest.Column[string](t, db, `select trace->>'traceparent' from outbox where key = $1`, made[i].ID)
		require.Len(t, traces, len(want[:min(len(want), 1)])+1)
		for _, trace := range traces {
			require.Equal(t, fmt.Sprintf(parent, i), trace, "each event belongs to the trace of its row")
		}
	}
	require.Equal(t, ends, pgtest.Column[*time.Time](t, db, `select ends_at from timed order by id`), "what did not change is written back exactly")
	require.NotNil(t, ends[0])
	require.Nil(t, ends[1])
}
