package job_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// When PostgreSQL died, each service with jobs took 7 s or more to stop.
func TestWithoutADatabaseAStopDoesNotWait(t *testing.T) {
	t.Parallel()
	direct := pgtest.Open(t, job.Migrations())
	proxy := pgtest.NewProxy(t, direct.Pool().Config().ConnString())
	db, err := pg.Open(t.Context(), pg.Config{URL: conf.Secret(proxy.URL()), MaxConns: 6}, "unused", telemetry.Nop())
	require.NoError(t, err)
	t.Cleanup(db.Close)
	s := sibling(t, db)
	began, ended := make(chan struct{}), make(chan struct{})
	stop := s.work(t, time.Minute, func(ctx context.Context, _ job.Args) error {
		close(began)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	})
	s.insert(t, event.NewID())
	<-began
	require.Eventually(t, func() bool { return len(pgtest.Column[string](t, direct, `select leader_id from river_leader`)) == 1 }, time.Minute, 10*time.Millisecond)

	proxy.Cut()
	took := clock.Stopwatch()
	stop()
	<-ended
	t.Logf("stopped after %s", took())
	require.Less(t, took(), 6*time.Second, "River resigns for 7 s")
}
