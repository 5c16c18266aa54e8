package run

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheHeapGrowsForWorkAndIsReleasedAtRest(t *testing.T) {
	t.Parallel()
	var all uint64
	var done []any
	h := &heap{
		growth: 800, collections: func() uint64 { return all }, working: true,
		grow: func(percent int) { done = append(done, percent) }, release: func() { done = append(done, "release") },
	}
	intervals := func(n int, collections uint64) {
		for range n {
			all += collections
			h.look()
		}
	}
	intervals(1, 40) // the start
	intervals(restIntervals-1, 1)
	require.Empty(t, done)
	intervals(1, 0)
	require.Equal(t, []any{restingGrowth, "release"}, done, "what the start needed is released")

	done = nil
	intervals(10, busyCollections-1)
	require.Empty(t, done, "some work needs no larger heap")
	intervals(1, busyCollections)
	require.Equal(t, []any{800}, done)
	intervals(restIntervals-1, restCollections)
	intervals(1, restCollections+1)
	intervals(restIntervals-1, restCollections)
	require.Equal(t, []any{800}, done, "a pause is no rest")
	intervals(1, 0)
	require.Equal(t, []any{800, restingGrowth, "release"}, done)
}

// A process that changes to rest must not look busy to itself then: at the smaller growth the same work causes more collections.
func TestTheLimitsOfWorkAndRestAreFarApart(t *testing.T) {
	t.Parallel()
	const largestGrowth = 800
	require.Less(t, restCollections*largestGrowth/restingGrowth, busyCollections)
}
