package delivery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	var total time.Duration
	for attempts := 1; attempts < len(schedule); attempts++ {
		least, ok := backoff(attempts, 0, 0)
		require.True(t, ok)
		most, _ := backoff(attempts, 0, 1)
		require.InDelta(t, 0.9*schedule[attempts].Seconds(), least.Seconds(), 0.001)
		require.InDelta(t, 1.1*schedule[attempts].Seconds(), most.Seconds(), 0.001)
		middle, _ := backoff(attempts, 0, 0.5)
		total += middle
	}
	require.InDelta(t, (70*time.Hour + 12*time.Minute + 35*time.Second).Seconds(), total.Seconds(), 1)
	_, ok := backoff(len(schedule), time.Hour, 0.5)
	require.False(t, ok, "there is an end")

	longer, _ := backoff(4, 15*time.Minute, 0.5)
	require.Equal(t, 15*time.Minute, longer, "a receiver may request a longer wait")
	shorter, _ := backoff(3, time.Second, 0.5)
	require.Equal(t, schedule[3], shorter)
	capped, _ := backoff(1, 1000*time.Hour, 0.5)
	require.Equal(t, 10*time.Second, capped, "twice as long at most")
}
