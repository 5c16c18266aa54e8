package network_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/network"
)

func TestCheckFailsInsideATransaction(t *testing.T) {
	t.Parallel()
	require.NoError(t, network.Check(t.Context()))
	require.ErrorIs(t, network.Check(network.Forbid(t.Context())), network.ErrInTransaction)
}
