package peer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/network"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestACallInsideATransactionIsRefused(t *testing.T) {
	t.Parallel()
	tr := &transport{answer: fine}
	client := New("calls", "http://calls", telemetry.Nop())
	client.http.Transport = tr
	for range 2 * tripAfter {
		require.ErrorIs(t, client.Get(network.Forbid(caller(t.Context())), "/calls/1", &call{}), network.ErrInTransaction)
		require.ErrorIs(t, client.Ask(network.Forbid(caller(t.Context())), "/calls/questions", "?", &call{}), network.ErrInTransaction)
	}
	require.Zero(t, tr.calls.Load())
	require.NoError(t, client.Get(caller(t.Context()), "/calls/1", &call{}), "a refused call does not count for the breaker")
}
