package table_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/pg/table"
)

func TestEachChangeOfACopyIsRecordedWithTheStateBefore(t *testing.T) {
	t.Parallel()
	type copied struct {
		ID      string
		Version int64
	}
	db := pgtest.Open(t)
	ctx := t.Context()
	_, err := db.Conn(ctx).Exec(ctx, `create table seen (id uuid primary key, version bigint not null); create table steps (step text not null)`)
	require.NoError(t, err)
	copies := table.NewCopies(db, "seen", func(c *copied) table.Columns {
		return table.Columns{table.Col("id", &c.ID), table.Col("version", &c.Version)}
	}).Recorded(func(ctx context.Context, changes []table.Change[copied]) error {
		step := "new"
		if changes[0].Before != nil {
			step = fmt.Sprint(changes[0].Before.Version)
		}
		_, err := db.Conn(ctx).Exec(ctx, `insert into steps values ($1)`, fmt.Sprintf("%s to %d", step, changes[0].After.Version))
		return err
	})
	id := event.NewID()
	for _, version := range []int64{2, 1, 2, 5, 4} {
		require.NoError(t, copies.Upsert(ctx, copied{id, version}))
	}
	require.Equal(t, []string{"new to 2", "2 to 5"}, pgtest.Column[string](t, db, `select step from steps`))

	var writers errgroup.Group
	other := event.NewID()
	for version := range int64(8) {
		writers.Go(func() error { return copies.Upsert(ctx, copied{other, version}) })
	}
	require.NoError(t, writers.Wait())
	got, ok, err := copies.Find(ctx, other)
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 7, got.Version)
	require.Len(t, pgtest.Column[string](t, db, `select step from steps where step like 'new to %'`), 2, "one for each copy")
}
