package store

import (
	"context"
	"fmt"

	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// leases implements call.Leases on the table calls. Lost calls are read from the index calls_leases.
type leases struct {
	job.Leases
	db *pg.DB
}

// Leases returns the store of the leases of calls.
func Leases(db *pg.DB) call.Leases { return leases{job.NewLeases(db, Transcribe, "calls"), db} }

// findNext selects from the index calls_waiting: for each agent who waits, one row of it is read. Of the chosen agent's oldest calls it
// returns any: workers that decide at the same time would all choose the oldest, and only one of them would get it.
const findNext = `
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

// FindNext returns a call that is due and whose agent was served less recently than that of a queued one.
func (s leases) FindNext(ctx context.Context, queued lease.Ref) (next lease.Ref, ok bool, err error) {
	err = s.db.Conn(ctx).QueryRow(ctx, findNext, queued.ID, queued.Epoch).Scan(&next.ID, &next.Epoch)
	if pg.NoRows(err) {
		return queued, false, nil
	}
	if err != nil {
		return queued, false, fmt.Errorf("find the next call instead of %s: %w", queued.ID, pg.Classify(err))
	}
	return next, true, nil
}
