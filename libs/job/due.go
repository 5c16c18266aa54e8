package job

import (
	"context"
	"fmt"
	"time"

	"github.com/riverqueue/river/rivertype"

	"github.com/convoflow/convoflow/libs/pg"
)

// When a job is due is decided by the database's clock, which all processes share. By default, River takes the clock of its process
// for that: a process whose clock was 10 min ahead inserted jobs that nobody ran for 10 min, and one whose clock was behind ran
// scheduled jobs 10 min late (docs/adr/0072).

// databaseTime is River's clock: its scheduler and its executor compare the due times of jobs with it. River has only the option for
// tests. Two of its maintenance tasks ignore it, which loses nothing: the cleaner of a process whose clock is off deletes completed
// jobs earlier or later than after a day, and the rescuer of one whose clock is ahead runs jobs again that are still running. The
// lease refuses their second worker; work without a lease may be done twice.
type databaseTime struct{ *pg.Clock }

// NowOrNil returns nil, which makes River's statements use now().
func (databaseTime) NowOrNil() *time.Time { return nil }

// dueNow makes a job that is due immediately due at the now() of the statement that inserts it: without a time, River's driver takes
// that of the process, and the statement takes the zero time for none.
func dueNow(_ context.Context, p *rivertype.JobInsertParams) error {
	p.CreatedAt = &time.Time{}
	if p.State == rivertype.JobStateAvailable {
		p.ScheduledAt = &time.Time{}
	}
	return nil
}

// in returns the time that is d later than now.
func (q *Queue) in(ctx context.Context, d time.Duration) (at time.Time, err error) {
	if err = q.db.Conn(ctx).QueryRow(ctx, "select now() + $1::interval", d).Scan(&at); err != nil {
		return at, fmt.Errorf("read the database's clock: %w", err)
	}
	return at, nil
}

const (
	firstRetry = time.Second
	maxRetry   = 30 * time.Second
)

// backoff retries after 2 s to 30 s: a job is retried only when the database is unavailable.
type backoff struct{ clock *pg.Clock }

func (b backoff) NextRetry(j *rivertype.JobRow) time.Time {
	return b.clock.Now().Add(min(firstRetry<<min(j.Attempt, 10), maxRetry))
}
