package pg

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
)

// ClockEvery is how often Clock.Refresh must be called.
const ClockEvery = 10 * time.Second

// The answer does not say when within the round trip the database read its clock. So the fastest of several round trips counts. A
// slow one is ignored if there is an earlier reading.
const (
	readings     = 3
	maxRoundTrip = time.Second
	fastTrip     = 20 * time.Millisecond // fast enough, no further reading is needed
)

// Clock is the database's clock, which all replicas share. It never reads the time of day of its own machine: between two
// readings it adds what the monotonic clock has counted. It implements clock.Clock and is safe for concurrent use.
type Clock struct {
	db      *DB
	reading atomic.Pointer[reading]
}

// reading is one reading of the database's clock, and the time since.
type reading struct {
	at    time.Time
	since func() time.Duration
}

// NewClock reads the database's clock for the first time.
func NewClock(ctx context.Context, db *DB) (*Clock, error) {
	c := &Clock{db: db}
	return c, c.Refresh(ctx)
}

// Refresh reads the database's clock.
func (c *Clock) Refresh(ctx context.Context) error {
	var best reading
	fastest := time.Duration(math.MaxInt64)
	for range readings {
		trip := clock.Stopwatch()
		var at time.Time
		if err := c.db.Conn(ctx).QueryRow(ctx, `select clock_timestamp()`).Scan(&at); err != nil {
			return fmt.Errorf("read the database's clock: %w", err)
		}
		since, took := clock.Stopwatch(), trip()
		if took < fastest {
			best, fastest = reading{at.Add(took / 2), since}, took
		}
		if took <= fastTrip {
			break
		}
	}
	if fastest <= maxRoundTrip || c.reading.Load() == nil {
		c.reading.Store(&best)
	}
	return nil
}

// Now returns the time of the database in UTC, with its precision.
func (c *Clock) Now() time.Time {
	r := c.reading.Load()
	return r.at.Add(r.since()).UTC().Truncate(time.Microsecond)
}
