package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// backlog reads only calls that have not ended: those that wait from the index calls_waiting, those that a worker has from
// calls_leases.
const backlog = `
	with open as (
		select status, run, created_at, updated_at from calls where lease_holder is null and status in ('pending', 'transcribing')
		union all
		select status, run, created_at, updated_at from calls where lease_until is not null and status in ('pending', 'transcribing'))
	select s.status, count(o.status), greatest(coalesce(now() - min(case when o.run = 1 then o.created_at else o.updated_at end), interval '0'), interval '0')
	from unnest(array['pending', 'transcribing']) s(status) left join open o on o.status = s.status group by 1`

// Backlog returns the function that counts the calls that have not ended. A status without any has a count of 0.
func Backlog(db *pg.DB) func(ctx context.Context) ([]call.Backlog, error) {
	return func(ctx context.Context) ([]call.Backlog, error) {
		rows, err := db.Conn(ctx).Query(ctx, backlog)
		if err != nil {
			return nil, fmt.Errorf("count the calls that have not ended: %w", pg.Classify(err))
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[call.Backlog])
		if err != nil {
			return nil, fmt.Errorf("count the calls that have not ended: %w", pg.Classify(err))
		}
		return found, nil
	}
}
