package pg_test

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// A process that was stopped after 8 s of waiting said that there was no database within 30 s, and failed.
func TestAStopWhileWaitingForTheDatabaseIsNoError(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	ctx, stop := context.WithCancel(t.Context())
	go func() { // stops when the connection has been accepted, which nobody answers
		if conn, err := silent.Accept(); err == nil {
			stop()
			_ = conn.Close()
		}
	}()
	_, err = pg.Open(ctx, pg.Config{URL: conf.Secret("postgres://a@" + silent.Addr().String() + "/b"), MaxConns: 2}, "x", telemetry.Nop())
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), "within")
}
