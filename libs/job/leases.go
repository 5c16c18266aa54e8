package job

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/pg"
)

// abandonedAfter is how long after a process fetched a job ListLost may return it.
const abandonedAfter = 30 * time.Second

// Leases accesses the leases of the rows of a table whose work the jobs of one kind do. It reads and writes no other columns than id,
// lease_epoch, lease_holder and lease_until.
type Leases struct {
	db    *pg.DB
	kind  Kind
	table string
}

// NewLeases returns the leases of a table.
func NewLeases(db *pg.DB, k Kind, table string) Leases { return Leases{db, k, table} }

// Renew extends the lease of the worker with that epoch to ttl from now, by the database's clock. It fails like lease.Lease.Check.
func (l Leases) Renew(ctx context.Context, id string, epoch int64, ttl time.Duration) error {
	tag, err := l.db.Conn(ctx).Exec(ctx, `
		update `+l.table+` set lease_until = now() + $3::interval where id = $1 and lease_epoch = $2 and lease_holder is not null`, id, epoch, ttl)
	if err != nil {
		return fmt.Errorf("renew the lease of %s in %s: %w", id, l.table, pg.Classify(err))
	}
	if tag.RowsAffected() == 0 {
		return lease.ErrSuperseded
	}
	return nil
}

// ListLost lists the work whose process died, for lease.Lease.Reclaim: up to limit rows whose leases have expired, the longest
// expired first, and up to limit whose job a process fetched at least 30 s ago and never began. Such a job has the epoch of its row,
// and the row has no holder. Rows that wait are not read.
func (l Leases) ListLost(ctx context.Context, limit int) ([]lease.Ref, error) {
	rows, err := l.db.Conn(ctx).Query(ctx, `
		(select id::text, lease_epoch from `+l.table+` where lease_holder is not null and lease_until <= now() order by lease_until limit $1)
		union all
		(select t.id::text, t.lease_epoch from river_job j join `+l.table+` t on t.id = (j.args->>'id')::uuid
		where j.state = 'running' and j.queue = $2 and j.kind = $3 and j.attempted_at < now() - $4::interval
			and t.lease_epoch = (j.args->>'epoch')::bigint and t.lease_holder is null
		order by j.attempted_at limit $1)`, // the index with which River fetches begins with state and queue
		limit, l.kind.queue(), string(l.kind), abandonedAfter)
	if err != nil {
		return nil, fmt.Errorf("list lost work in %s: %w", l.table, pg.Classify(err))
	}
	lost, err := pgx.CollectRows(rows, pgx.RowToStructByPos[lease.Ref])
	if err != nil {
		return nil, fmt.Errorf("list lost work in %s: %w", l.table, pg.Classify(err))
	}
	return lost, nil
}
