package job_test

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// A process whose database was away at the moment when its workers started once ended.
func TestWorkersStartWhenTheDatabaseIsBack(t *testing.T) {
	t.Parallel()
	direct := pgtest.Open(t, job.Migrations())
	proxy := pgtest.NewProxy(t, direct.Pool().Config().ConnString())
	db, err := pg.Open(t.Context(), pg.Config{URL: conf.Secret(proxy.URL()), MaxConns: 4}, "unused", telemetry.Nop())
	require.NoError(t, err)
	t.Cleanup(db.Close)
	jobs := make(chan job.Args, 1)
	s := sibling(t, db)
	refused := make(firstLine, 1)
	s.tel.Log = slog.New(slog.NewTextHandler(refused, nil))
	s.queue = job.New(db, s.chain, s.tel)
	proxy.Cut()
	s.work(t, time.Minute, sendTo(jobs))
	require.Contains(t, <-refused, "cannot start yet")
	proxy.Restore()
	id := event.NewID()
	require.Eventually(t, func() bool { return s.queue.Insert(t.Context(), kind, id, due(1, 0)) == nil }, time.Minute, 10*time.Millisecond)
	require.Equal(t, id, (<-jobs).ID)
}

// firstLine receives the first line of a log.
type firstLine chan string

func (f firstLine) Write(p []byte) (int, error) {
	select {
	case f <- string(bytes.Clone(p)):
	default:
	}
	return len(p), nil
}
