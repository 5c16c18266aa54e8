// Package jobtest provides a job queue for the tests of a store. It refuses to run jobs.
package jobtest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Queue returns a queue that accepts jobs of the given kinds. It is not run, so that the jobs stay in the queue.
func Queue(t testing.TB, db *pg.DB, kinds ...job.Kind) *job.Queue {
	t.Helper()
	tel := telemetry.Nop()
	chain, err := op.NewChain(tel, pg.Classify)
	require.NoError(t, err)
	clock, err := pg.NewClock(t.Context(), db)
	require.NoError(t, err)
	jobs := job.New(db, clock, chain, tel)
	for _, kind := range kinds {
		jobs.Handle(kind, job.Limits{Workers: 1, Timeout: time.Minute}, func(context.Context, job.Args) error { return nil })
	}
	return jobs
}
