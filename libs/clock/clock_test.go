package clock_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
)

func TestClocks(t *testing.T) {
	t.Parallel()
	now := clock.System{}.Now()
	require.Equal(t, time.UTC, now.Location())
	require.Equal(t, now.Truncate(time.Microsecond), now, "in the precision of PostgreSQL")
	m := clock.At(time.Date(2026, 11, 24, 14, 30, 0, 0, time.FixedZone("IST", 19800)))
	first := m.Now()
	require.Equal(t, first, m.Now())
	m.Advance(time.Hour)
	require.Equal(t, time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC), m.Now())
}

func TestIntervals(t *testing.T) {
	t.Parallel()
	elapsed := clock.Stopwatch()
	deadline := clock.Deadline(time.Hour)
	left := clock.Left(deadline)
	require.LessOrEqual(t, left, time.Hour)
	require.GreaterOrEqual(t, left, time.Hour-elapsed())
	require.Negative(t, clock.Left(clock.Deadline(-time.Hour)))
	require.NotEqual(t, deadline.Round(0), deadline, "it has the reading of the monotonic clock")
}
