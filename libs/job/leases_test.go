package job_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

// works returns the leases of a new table.
func (s service) works(t *testing.T) job.Leases {
	t.Helper()
	s.queue.Handle(kind, job.Limits{Workers: 1, Timeout: time.Minute}, func(context.Context, job.Args) error { return nil })
	_, err := s.db.Pool().Exec(t.Context(), `create table works (id uuid primary key, what text, lease_epoch bigint, lease_holder text, lease_until timestamptz)`)
	require.NoError(t, err)
	return job.NewLeases(s.db, kind, "works")
}

// add inserts a row with a job of epoch 1.
func (s service) add(t *testing.T, what string, l lease.Lease) (id string) {
	t.Helper()
	id = event.NewID()
	_, err := s.db.Pool().Exec(t.Context(), `insert into works values ($1, $2, $3, $4, now() + $5::interval)`, id, what, l.Epoch, l.Holder, l.Left)
	require.NoError(t, err)
	s.insert(t, id)
	return id
}

func TestWorkOfADeadProcessIsListed(t *testing.T) {
	t.Parallel()
	s := start(t)
	leases := s.works(t)
	held := func(left time.Duration) lease.Lease { return lease.Lease{Epoch: 2, Holder: new("w"), Left: &left} }
	for what, l := range map[string]lease.Lease{
		"waiting": {Epoch: 1}, "fetched a moment ago": {Epoch: 1}, "never begun": {Epoch: 1}, "superseded": {Epoch: 2},
		"begun": held(time.Minute), "expired": held(-time.Second), "expired earlier": held(-time.Minute),
	} {
		s.add(t, what, l)
	}
	_, err := s.db.Pool().Exec(t.Context(), `
		update river_job j set state = 'running', attempt = 1, attempted_by = '{dead}',
			attempted_at = now() - case when what = 'fetched a moment ago' then interval '1 second' else interval '1 minute' end
		from works w where w.id::text = j.args->>'id' and what <> 'waiting'`)
	require.NoError(t, err)
	for limit, want := range map[int][]string{1: {"expired earlier", "never begun"}, 10: {"expired earlier", "expired", "never begun"}} {
		lost, err := leases.ListLost(t.Context(), limit)
		require.NoError(t, err)
		var found []string
		for _, w := range lost {
			found = append(found, pgtest.Column[string](t, s.db, `select what from works where id = $1 and lease_epoch = $2`, w.ID, w.Epoch)...)
		}
		require.Equal(t, want, found)
	}
	others, err := job.NewLeases(s.db, "test.other", "works").ListLost(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, others, 2, "jobs of another kind are not listed")
}

// A renewal is accepted from whom lease.Lease.Check accepts, and changes nothing but the time.
func TestOnlyTheWorkerRenewsItsLease(t *testing.T) {
	t.Parallel()
	s := start(t)
	leases := s.works(t)
	for name, l := range map[string]lease.Lease{
		"waiting": {Epoch: 2}, "held": {Epoch: 2, Holder: new("w"), Left: new(time.Second)}, "expired": {Epoch: 2, Holder: new("w"), Left: new(-time.Second)},
	} {
		id := s.add(t, name, l)
		row := `select lease_epoch::text || coalesce(lease_holder, '') || coalesce((lease_until > now() + interval '50 seconds')::text, '') from works where id = $1`
		for epoch := range int64(4) {
			before := pgtest.Column[string](t, s.db, row, id)
			err := leases.Renew(t.Context(), id, epoch, time.Minute)
			if l.Check(epoch) != nil {
				require.ErrorIs(t, err, lease.ErrSuperseded, "%s with epoch %d", name, epoch)
				require.Equal(t, before, pgtest.Column[string](t, s.db, row, id))
				continue
			}
			require.NoError(t, err, "%s with epoch %d", name, epoch)
			require.Equal(t, []string{"2wtrue"}, pgtest.Column[string](t, s.db, row, id))
		}
	}
	require.ErrorIs(t, leases.Renew(t.Context(), event.NewID(), 1, time.Minute), lease.ErrSuperseded, "a row that was removed")
}
