// Package jobtest is the job queue of a store under test.
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

// Queue is a queue that takes jobs of those kinds and does none: it is not run.
func Queue(t testing.TB, db *pg.DB, kinds ...job.Kind) *job.Queue {
	t.Helper()
	tel := telemetry.Nop()
	chain, err := op.NewChain(tel, pg.Classify)
	require.NoError(t, err)
	jobs := job.New(db, chain, tel)
	for _, kind := range kinds {
		jobs.Handle(kind, job.Limits{Workers: 1, Timeout: time.Minute}, func(context.Context, job.Args) error { return nil })
	}
	return jobs
}
