package analytics_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/services/crm/internal/analytics"
)

// folds is a Rollups with as many deltas at each fold as its elements say.
type folds struct {
	analytics.Rollups
	found []int
	calls int
}

func (f *folds) Fold(context.Context) (int, error) {
	n := f.found[f.calls]
	f.calls++
	return n, nil
}

// While leads are written there are always new deltas: they wait for the next period.
func TestFoldLeavesNewDeltasToTheNextPeriod(t *testing.T) {
	t.Parallel()
	for calls, found := range map[int][]int{1: {3, 0}, 3: {analytics.FoldLimit, analytics.FoldLimit, 3, 0}} {
		f := &folds{found: found}
		require.NoError(t, (&analytics.Aggregator{Rollups: f}).Fold(t.Context()))
		require.Equal(t, calls, f.calls)
	}
}
