package pg_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

func TestTheClockIsThatOfTheDatabase(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t)
	c, err := pg.NewClock(t.Context(), db)
	require.NoError(t, err)
	const slack = 5 * time.Second // for a slow answer
	before := pgtest.Column[time.Time](t, db, `select clock_timestamp()`)[0]
	at := c.Now()
	require.WithinRange(t, at, before.Add(-slack), pgtest.Column[time.Time](t, db, `select clock_timestamp()`)[0].Add(slack))
	require.Equal(t, time.UTC, at.Location())
	require.False(t, c.Now().Before(at))
	require.NoError(t, c.Refresh(t.Context())) // another reading may be some milliseconds earlier
	at = c.Now()

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, c.Refresh(ended))
	require.False(t, c.Now().Before(at), "it goes on while the database is unavailable")
	_, err = pg.NewClock(ended, db)
	require.Error(t, err)
}
