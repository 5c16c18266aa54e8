package job

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Available is the state of a job that is due and waits for a worker. The others are River's: scheduled, retryable, running.
const Available = "available"

// Backlog is how many jobs of a kind are in a state.
type Backlog struct {
	Kind      Kind
	State     string
	Count     int64
	OldestDue time.Duration // for how long the first of them has been due; 0 if it is not yet
}

// Backlog returns the jobs that have not ended, for each registered kind and state: a state without jobs has a count of 0.
func (q *Queue) Backlog(ctx context.Context) ([]Backlog, error) {
	kinds := make([]string, 0, len(q.kinds))
	for k := range q.kinds {
		kinds = append(kinds, string(k))
	}
	rows, err := q.db.Conn(ctx).Query(ctx, `
		select k.kind, s.state, count(j.id), greatest(coalesce(now() - min(j.scheduled_at), interval '0'), interval '0')
		from unnest($1::text[]) k(kind) cross join unnest(array['available', 'scheduled', 'retryable', 'running']) s(state)
		left join river_job j on j.kind = k.kind and j.state = s.state::river_job_state
		group by 1, 2`, kinds)
	if err != nil {
		return nil, fmt.Errorf("count the jobs: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Backlog])
	if err != nil {
		return nil, fmt.Errorf("count the jobs: %w", err)
	}
	return found, nil
}
