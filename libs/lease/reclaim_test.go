package lease_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
)

func TestWorkThatCannotBeReclaimedDoesNotDelayTheRest(t *testing.T) {
	t.Parallel()
	down := errors.New("connection refused")
	answers := map[string]error{
		"down": down, "goes on": fmt.Errorf("change: %w", lease.ErrSuperseded), "removed": fault.New(fault.NotFound, "thing_not_found", "Thing not found"), "lost": nil,
	}
	var lost, reclaimed []lease.Ref
	for _, id := range []string{"down", "goes on", "removed", "lost"} {
		lost = append(lost, lease.Ref{ID: id, Epoch: 7})
	}
	reclaim := func(w lease.Ref) error {
		reclaimed = append(reclaimed, w)
		return answers[w.ID]
	}
	require.EqualError(t, lease.ReclaimEach(lost, reclaim), "reclaim down: connection refused")
	require.Equal(t, lost, reclaimed)
	require.NoError(t, lease.ReclaimEach(lost[1:], reclaim))
}
