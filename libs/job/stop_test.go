package job_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/libs/telemetry/telemetrytest"
)

// cuttable returns a service whose database can be cut off, and a way to the database that stays.
func cuttable(t *testing.T, tel telemetry.Set) (*pg.DB, *pgtest.Proxy, service) {
	t.Helper()
	direct := pgtest.Open(t, job.Migrations())
	proxy := pgtest.NewProxy(t, direct.Pool().Config().ConnString())
	db, err := pg.Open(t.Context(), pg.Config{URL: conf.Secret(proxy.URL()), MaxConns: 6}, "unused", telemetry.Nop())
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return direct, proxy, observed(t, db, tel)
}

// A service ended when PostgreSQL did not answer at the moment when its workers were started.
func TestWorkersStartWhenTheDatabaseIsBack(t *testing.T) {
	t.Parallel()
	var log telemetrytest.Log
	tel := telemetry.Nop()
	tel.Log = slog.New(slog.NewTextHandler(&log, nil))
	direct, proxy, s := cuttable(t, tel)
	other := sibling(t, direct)
	other.queue.Handle(kind, job.Limits{Workers: 1, Timeout: time.Minute}, nil)
	other.insert(t, event.NewID())
	proxy.Cut()
	worked := make(chan struct{})
	s.work(t, time.Minute, func(context.Context, job.Args) error { close(worked); return nil })
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "cannot be started") }, time.Minute, time.Millisecond)
	proxy.Restore()
	<-worked
}

// When PostgreSQL died, each service with jobs took 7 s or more to stop.
func TestWithoutADatabaseAStopDoesNotWait(t *testing.T) {
	t.Parallel()
	var log telemetrytest.Log
	tel := telemetry.Nop()
	tel.Log = slog.New(slog.NewTextHandler(&log, nil))
	direct, proxy, s := cuttable(t, tel)
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
	stop()
	<-ended
	require.Less(t, strings.Count(log.String(), "attempting to resign"), 3, "River resigns three times, with 1, 2 and 4 s after them")
}
