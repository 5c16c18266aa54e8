package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// leases implements call.Leases on the table calls.
type leases struct {
	db   *pg.DB
	jobs *job.Queue
}

// Leases returns the store of the leases of calls.
func Leases(db *pg.DB, jobs *job.Queue) call.Leases { return leases{db, jobs} }

// Renew extends the lease of a worker.
func (s leases) Renew(ctx context.Context, id string, epoch int64, ttl time.Duration) error {
	tag, err := s.db.Conn(ctx).Exec(ctx, `
		update calls set lease_until = now() + $3::interval where id = $1 and lease_epoch = $2 and lease_holder is not null`, id, epoch, ttl)
	if err != nil {
		return fmt.Errorf("renew the lease of call %s: %w", id, err)
	}
	if tag.RowsAffected() == 0 {
		return lease.ErrSuperseded
	}
	return nil
}

// listExpired reads only the held leases, from the index calls_leases: its cost does not depend on how many calls wait.
const listExpired = `select id::text from calls where lease_until <= now() order by lease_until limit $1`

// ListExpired lists the calls whose leases have expired, oldest first.
func (s leases) ListExpired(ctx context.Context, limit int) ([]string, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, listExpired, limit)
	if err != nil {
		return nil, fmt.Errorf("list expired leases: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list expired leases: %w", err)
	}
	return ids, nil
}

// turn selects from the index calls_waiting: for each agent who waits, one row of it is read. Of the chosen agent's oldest calls it returns
// any: workers that decide at the same time would all choose the oldest, and only one of them would get it.
const turn = `
	with recursive own as (
		select c.agent_id, coalesce(t.served_at, '-infinity') as served_at from calls c left join turns t using (agent_id)
		where c.id = $1 and c.lease_epoch = $2 and c.lease_holder is null and c.status = 'pending'),
	waiting (agent_id) as (
		(select agent_id from calls where lease_holder is null and status in ('pending', 'transcribing') order by agent_id limit 1)
		union all
		select (select c.agent_id from calls c
			where c.lease_holder is null and c.status in ('pending', 'transcribing') and c.agent_id > w.agent_id order by c.agent_id limit 1)
		from waiting w where w.agent_id is not null),
	chosen as (
		select w.agent_id from own, waiting w left join turns t on t.agent_id = w.agent_id
		where w.agent_id <> own.agent_id and coalesce(t.served_at, '-infinity') < own.served_at and exists (
			select from calls c where c.lease_holder is null and c.status in ('pending', 'transcribing') and c.agent_id = w.agent_id and c.due_at <= now())
		order by t.served_at nulls first limit 1)
	select next.id::text, next.lease_epoch from chosen cross join lateral (
		select id, lease_epoch from calls c
		where c.lease_holder is null and c.status in ('pending', 'transcribing') and c.agent_id = chosen.agent_id and c.due_at <= now()
		order by c.due_at limit 16) next
	order by random() limit 1`

// Turn returns the call that is due before a queued one, because its agent was served less recently.
func (s leases) Turn(ctx context.Context, j call.Job) (next call.Job, ok bool, err error) {
	err = s.db.Conn(ctx).QueryRow(ctx, turn, j.CallID, j.Epoch).Scan(&next.CallID, &next.Epoch)
	if pg.NoRows(err) {
		return j, false, nil
	}
	if err != nil {
		return j, false, fmt.Errorf("find whose turn it is: %w", pg.Classify(err))
	}
	return next, true, nil
}

// ListAbandoned lists the jobs that a process fetched and did not begin, oldest first.
func (s leases) ListAbandoned(ctx context.Context, limit int) ([]call.Job, error) {
	found, err := s.jobs.Abandoned(ctx, Transcribe, "calls", limit)
	abandoned := make([]call.Job, len(found))
	for i, a := range found {
		abandoned[i] = call.Job{CallID: a.ID, Epoch: a.Epoch}
	}
	return abandoned, err
}
