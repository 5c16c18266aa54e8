package table_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// item has a column of every type that services use.
type item struct {
	ID     string
	Name   string
	Rank   int64
	Share  *float64
	Texts  []string
	Extra  map[string]any
	At     *time.Time
	Fixed  string
	Absent *string
}

func openItems(t *testing.T, record func(changes []table.Change[item])) *table.Table[item] {
	t.Helper()
	db := pgtest.Open(t, outbox.Migrations())
	_, err := db.Pool().Exec(t.Context(), `
		create table items (id uuid primary key, name text not null, rank bigint not null, share double precision, texts text[], extra jsonb not null, at timestamptz, fixed text, absent text,
			generated bigint generated always as (rank * 2) stored)`)
	require.NoError(t, err)
	return table.New(db, outbox.New(db, telemetry.Nop()), table.Spec[item]{
		Name: "items",
		Columns: func(x *item) table.Columns {
			return table.Columns{
				table.Fixed("id", &x.ID), table.Col("name", &x.Name), table.Col("rank", &x.Rank), table.Col("share", &x.Share), table.Col("texts", &x.Texts),
				table.Col("extra", &x.Extra), table.Col("at", &x.At), table.Fixed("fixed", &x.Fixed), table.Col("absent", &x.Absent),
			}
		},
		Missing: func() error { return errors.New("missing") },
		Record: func(_ context.Context, changes []table.Change[item]) error {
			record(changes)
			return nil
		},
	})
}

func TestManyRowsAreChangedAsOneByOne(t *testing.T) {
	t.Parallel()
	var recorded []string
	items := openItems(t, func(changes []table.Change[item]) {
		recorded = append(recorded, fmt.Sprint(len(changes)))
		for _, c := range changes {
			name := func(x *item) string {
				if x == nil {
					return "-"
				}
				return x.Name
			}
			recorded = append(recorded, name(c.Before)+">"+name(c.After))
		}
	})
	var ids []string
	for _, name := range []string{"a", "b", "c", "d"} {
		x := item{ID: event.NewID(), Name: name, Extra: map[string]any{}, Fixed: "once", Absent: new("x")}
		_, err := items.Create(t.Context(), &x, "")
		require.NoError(t, err)
		ids = append(ids, x.ID)
	}
	recorded = nil
	want := item{Name: `quote " and \ and é`, Rank: 1 << 60, Share: new(0.1), Texts: []string{"a,b", `"`, ""}, Extra: map[string]any{"k": []any{"v"}}, At: new(at), Fixed: "once"}
	found, err := items.ChangeAll(t.Context(), append([]string{event.NewID()}, ids...), func(x *item) (table.Outcome, []event.Event, error) {
		switch x.Name {
		case "a":
			return table.Unchanged, []event.Event{}, nil
		case "b":
			return table.Delete, nil, nil
		}
		id := x.ID
		*x = want
		x.ID, x.Fixed = id, "not written"
		return table.Write, nil, nil
	})
	require.NoError(t, err)
	require.ElementsMatch(t, ids, found)
	require.Equal(t, []string{"3", "b>-", "c>" + want.Name, "d>" + want.Name}, recorded)
	for _, id := range ids[2:] {
		got, err := items.Find(t.Context(), id)
		require.NoError(t, err)
		want.ID = id
		require.Equal(t, want.At.UTC(), got.At.UTC())
		got.At = want.At
		require.Equal(t, want, got)
	}
	_, err = items.Find(t.Context(), ids[1])
	require.ErrorContains(t, err, "missing")

	_, err = items.ChangeAll(t.Context(), ids, func(x *item) (table.Outcome, []event.Event, error) {
		x.Name = "changed"
		return table.Write, nil, map[bool]error{true: context.Canceled}[x.ID == ids[3]]
	})
	require.ErrorIs(t, err, context.Canceled)
	got, err := items.Find(t.Context(), ids[0])
	require.NoError(t, err)
	require.Equal(t, "a", got.Name, "all or nothing")
}

func TestOverlappingChangesOfManyRowsDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	items := openItems(t, func([]table.Change[item]) {})
	var ids, reversed []string
	for range 20 {
		x := item{ID: event.NewID(), Extra: map[string]any{}}
		_, err := items.Create(t.Context(), &x, "")
		require.NoError(t, err)
		ids, reversed = append(ids, x.ID), append([]string{x.ID}, reversed...)
	}
	var g errgroup.Group
	for i := range 8 {
		g.Go(func() error {
			_, err := items.ChangeAll(t.Context(), [][]string{ids, reversed}[i%2], func(x *item) (table.Outcome, []event.Event, error) {
				x.Rank++
				return table.Write, nil, nil
			})
			return err
		})
	}
	require.NoError(t, g.Wait())
	got, err := items.Find(t.Context(), ids[7])
	require.NoError(t, err)
	require.Equal(t, int64(8), got.Rank)
}

func TestATableThatWritesRowByRowHasNoChangeAll(t *testing.T) {
	t.Parallel()
	_, err := open(t).ChangeAll(t.Context(), nil, nil)
	require.Error(t, err)
}
