package job_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// differing returns a database whose clock differs from that of this process: functions in its schema hide those of PostgreSQL.
func differing(t *testing.T, by time.Duration) *pg.DB {
	t.Helper()
	db := pgtest.Open(t, job.Migrations())
	for _, name := range []string{"now", "clock_timestamp"} {
		_, err := db.Pool().Exec(t.Context(), fmt.Sprintf(`create function %s() returns timestamptz language sql as
			$$ select pg_catalog.%[1]s() + interval '%d seconds' $$`, name, int(by.Seconds())))
		require.NoError(t, err)
	}
	address, err := url.Parse(db.Pool().Config().ConnString())
	require.NoError(t, err)
	query := address.Query()
	query.Set("search_path", query.Get("search_path")+",pg_catalog")
	address.RawQuery = query.Encode()
	hidden, err := pg.Open(t.Context(), pg.Config{URL: conf.Secret(address.String()), MaxConns: 6}, "unused", telemetry.Nop())
	require.NoError(t, err)
	t.Cleanup(hidden.Close)
	return hidden
}

// The jobs and the retries of a process whose clock was 10 min ahead were due 10 min late. One whose clock was behind retried
// without a wait, and ran scheduled jobs 10 min late.
func TestAWrongClockOfAProcessNeitherDelaysNorHurriesJobs(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]time.Duration{"ahead": -10 * time.Minute, "behind": 10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sibling(t, differing(t, by))
			attempts := make(chan time.Duration, 10)
			next := func() time.Duration {
				select {
				case at := <-attempts:
					return at
				case <-time.After(time.Minute):
					require.Fail(t, "no attempt in a minute")
					return 0
				}
			}
			var failed atomic.Bool
			since := clock.Stopwatch()
			s.work(t, time.Minute, func(_ context.Context, a job.Args) error {
				attempts <- since()
				if a.ID == "retried" && !failed.Swap(true) {
					return errors.New("database unavailable")
				}
				return nil
			})
			const wait = 1500 * time.Millisecond
			require.NoError(t, s.queue.Insert(t.Context(), kind, "scheduled", due(1, wait)))
			require.GreaterOrEqual(t, next(), wait)
			s.insert(t, "retried")
			first := next()
			require.GreaterOrEqual(t, next()-first, wait)
		})
	}
}
